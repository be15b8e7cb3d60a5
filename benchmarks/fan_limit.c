/*
 * The limit of the loads `fan...`: a server that does nothing but write. It answers every handshake
 * alike, and writes each message to all connections with one system call each, as often as the number
 * at the end of its path says (/fan/32). `python -m benchmarks.fan_limit PORT` compiles and starts it.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FILES = 1 << 16, READ_MAX = 1 << 16, EVENTS = 256, BACKLOG = 4096 };

static const char ACCEPT[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"; /* for RFC 6455's example key */

static int members[FILES], count, place[FILES]; /* place: among the members, from 1 on */
static int times = 1;
static uint8_t data[READ_MAX], frame[READ_MAX];

static void leave(int fd) {
    if (place[fd]) {
        int last = members[--count];
        members[place[fd] - 1] = last;
        place[last] = place[fd];
        place[fd] = 0;
    }
    close(fd);
}

static void join(int fd, size_t size) {
    data[size < READ_MAX ? size : READ_MAX - 1] = 0;
    if (!strncmp((char *)data, "GET /fan/", 9)) times = atoi((char *)data + 9);
    if (send(fd, ACCEPT, sizeof ACCEPT - 1, MSG_NOSIGNAL) < 0) {
        leave(fd);
        return;
    }
    members[count++] = fd;
    place[fd] = count;
}

/* Write one masked message of at most 65,535 bytes to all members (RFC 6455 section 5.2). */
static void publish(void) {
    size_t head = (data[1] & 127) == 126 ? 4 : 2;
    size_t size = head == 4 ? (size_t)data[2] << 8 | data[3] : (size_t)(data[1] & 127);
    const uint8_t *mask = data + head;
    memcpy(frame, data, head);
    frame[1] &= 127;
    for (size_t i = 0; i < size; i++) frame[head + i] = mask[4 + i] ^ mask[i & 3];
    for (int round = 0; round < times; round++)
        for (int i = 0; i < count; i++)
            if (send(members[i], frame, head + size, MSG_NOSIGNAL) < 0) perror("send");
}

static void serve(int fd) {
    ssize_t size = recv(fd, data, sizeof data, 0);
    if (size <= 0 || (place[fd] && (data[0] & 15) == 8)) leave(fd);
    else if (!place[fd]) join(fd, (size_t)size);
    else publish();
}

static void watch(int epoll, int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static int listen_on(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, BACKLOG)) {
        perror("bind");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < FILES ? files.rlim_max : FILES;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc != 2) return 2;
    int listener = listen_on(atoi(argv[1])), epoll = epoll_create1(0), one = 1;
    watch(epoll, listener);
    for (;;) {
        struct epoll_event events[EVENTS];
        int found = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < found; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            watch(epoll, fd);
        }
    }
}
