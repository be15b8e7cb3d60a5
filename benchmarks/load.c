/*
 * A load generator for WebSocket and HTTP servers: one thread on epoll, so that the server is what
 * is measured. `python -m benchmarks` compiles it and calls it; by hand:
 *
 *     cc -O2 -o load load.c && ./load echo --port 8000 --connections 64 --size 64 --seconds 2
 *
 * echo     each connection has one message in flight; its answer triggers the next message
 * connect  handshake, Close, reconnect: measures handshakes per second
 * http     each connection has one GET in flight, with keep-alive
 * idle     opens the connections and holds them until end of file on standard input
 * hold     opens the connections; --active of them send --rate messages per second, the rest idle
 * balance  opens the connections, each of which gets the id of the server's process as its first
 *          message; counts the connections of each process. --apart is the time from one connection
 *          to the next in seconds; 0 opens them in a burst
 * fanout   the first connection sends a message, which the server sends to all, --burst times; when all
 *          have arrived it sends the next one. Counts what arrives
 * paced    the first connection sends --rate messages per second, which the server sends to all; the
 *          last --frozen connections read nothing of it. The latency is that of each arrival
 *
 * Sending starts when all connections are open, counting starts --warm-up seconds later. At the
 * end the program prints one line of JSON with the figures; idle and hold print the line `open`
 * before it. Any fault of the server (a refusal, a close, an answer of the wrong length) ends the
 * run with exit status 1 and the reason on standard error.
 *
 * --greeted waits until each connection has got a first message before any sends.
 *
 * --proxied sends what a proxy on this machine would add: X-Forwarded-For and X-Forwarded-Proto.
 *
 * --tls speaks TLS, without checking the certificate and without resuming sessions. It needs OpenSSL:
 *
 *     cc -O2 -DWITH_TLS -o load load.c -lssl -lcrypto
 *
 * Connections come from 127.0.0.1 to 127.0.0.16 in turn, so that no address runs out of ports. If
 * the limit of open files is below the number of connections, several processes share them.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#ifdef WITH_TLS
#include <openssl/ssl.h>
#else
typedef void SSL;
#endif

enum {
    ADDRESSES = 16,      /* source addresses of the connections */
    OPENING = 256,       /* handshakes in flight while the connections are opened */
    BURST = 1000,        /* the same in `balance`: fewer than any server's backlog */
    WORKERS = 64,        /* processes of a server */
    OPEN_SECONDS = 120,  /* timeout for opening all connections */
    SILENT_SECONDS = 10, /* without any answer before the run fails */
    REFUSALS = 100,      /* refused TCP connections that are retried */
    HEAD_MAX = 4096,     /* bytes of a response's head */
    READ_MAX = 256 * 1024,
    SPARE_FILES = 64, /* open files of a process beside its connections */
};

/* ---- options ---- */

typedef enum { ECHO, CONNECT, HTTP, IDLE, HOLD, BALANCE, FANOUT, PACED } Mode;
static const char *const MODES[] = {"echo", "connect", "http",   "idle",
                                    "hold", "balance", "fanout", "paced"};

static struct {
    Mode mode;
    int port;
    const char *path;
    int connections;
    int active, burst, frozen;
    double rate;
    size_t size;         /* bytes of a message, as the app receives it */
    const char *payload; /* file with the compressed payload, if it is not plain */
    bool text, offer_deflate, compressed, tls, proxied, greeted;
    double seconds, warm_up, apart;
} options = {.path = "/", .connections = 1, .burst = 1, .rate = 10, .seconds = 2, .warm_up = 0.25};

/* ---- figures: shared memory with one tally per process ---- */

enum { FINE_BITS = 6, BUCKETS = 64 << FINE_BITS }; /* latency histogram: a bucket is 1/64 wide */

typedef struct {
    int pid, connections;
} Worker;

typedef struct {
    int opened;
    uint64_t done, bytes;
    uint64_t refused; /* TCP connections that were retried */
    uint64_t kept_back; /* messages of `hold` that were delayed by a missing answer */
    double cpu;       /* seconds of processor time while counting */
    double end;
    bool deflate;     /* the server agreed to it */
    uint64_t latencies[BUCKETS];
    Worker workers[WORKERS]; /* of the server, by their first connection */
} Tally;

typedef struct {
    double start; /* when all connections were open; 0 before */
    Tally tallies[];
} Board;

static Board *board;
static Tally *tally; /* of this process */
static int processes = 1;

/* ---- a connection ---- */

typedef enum { CONNECTING, SECURING, SHAKING, OPEN, CLOSING } State;

typedef struct {
    int fd;
    SSL *tls;          /* NULL without TLS */
    State state;
    bool wants_write;  /* registered for EPOLLOUT */
    bool is_waiting;   /* an answer is expected */
    bool is_greeted;   /* its first message has come */
    bool is_inflated;  /* RSV1 was set on the message's first frame */
    int number;        /* among the connections of all processes */
    int answers;       /* on this TCP connection */
    double sent;       /* when the message in flight was sent */
    size_t out_left;   /* bytes of the request still to be written */
    uint64_t left;     /* bytes of a frame's payload still to come */
    uint64_t received; /* bytes of the message so far */
    uint8_t header[14], header_size;
    uint8_t control[125], control_size; /* a control frame's payload; in `balance`, any frame's */
    uint8_t reply[6 + 125], reply_size; /* a Pong that waits for the message before it */
    char *head;                         /* of a response that is incomplete */
    size_t head_size;
    size_t body_left;
} Connection;

static Connection *connections;
static int count; /* connections of this process */
static int epoll;
static uint8_t *request; /* sent repeatedly: a frame or a GET */
static size_t request_size, wire_size;
static char handshake[1024];
static size_t handshake_size;
static uint8_t buffer[READ_MAX];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

__attribute__((noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    _exit(1);
}

static void *must(void *memory) {
    if (!memory) fail("out of memory");
    return memory;
}

/* ---- latencies ---- */

static size_t bucket_of(double seconds) {
    uint64_t ns = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    if (ns < (1u << FINE_BITS)) return (size_t)ns;
    int shift = 63 - __builtin_clzll(ns) - FINE_BITS;
    return ((size_t)(shift + 1) << FINE_BITS) + (size_t)((ns >> shift) & ((1u << FINE_BITS) - 1));
}

static double seconds_of(size_t bucket) {
    size_t group = bucket >> FINE_BITS, fine = bucket & ((1u << FINE_BITS) - 1);
    if (!group) return (double)fine * 1e-9;
    return (double)(((1ull << FINE_BITS) + fine) << (group - 1)) * 1e-9;
}

static double quantile(const Tally *of, double share) {
    uint64_t all = 0, seen = 0;
    for (size_t i = 0; i < BUCKETS; i++) all += of->latencies[i];
    for (size_t i = 0; i < BUCKETS; i++)
        if ((seen += of->latencies[i]) && (double)seen >= (double)all * share) return seconds_of(i);
    return 0;
}

static bool is_counted(double at) {
    return board->start && at >= board->start + options.warm_up;
}

static void record(double sent, double at) {
    if (is_counted(sent)) tally->latencies[bucket_of(at - sent)]++;
}

/* ---- workers of the server ---- */

static void count_worker(Tally *in, int pid, int more) {
    Worker *worker = in->workers, *end = worker + WORKERS;
    while (worker < end && worker->pid && worker->pid != pid) worker++;
    if (worker == end) fail("more than %d processes serve", WORKERS);
    worker->pid = pid;
    worker->connections += more;
}

static void print_workers(const Tally *of) {
    printf("\"workers\": [");
    for (int i = 0; i < WORKERS && of->workers[i].pid; i++)
        printf("%s%d", i ? ", " : "", of->workers[i].connections);
    printf("], ");
}

/* ---- requests and frames to send ---- */

static void read_payload(uint8_t *into) {
    FILE *file = fopen(options.payload, "rb");
    if (!file || fread(into, 1, wire_size, file) != wire_size) fail("payload: %s", strerror(errno));
    fclose(file);
}

static size_t payload_size(void) {
    if (!options.payload) return options.size;
    FILE *file = fopen(options.payload, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail("payload: %s", strerror(errno));
    long size = ftell(file);
    fclose(file);
    return (size_t)size;
}

/* One masked frame (RFC 6455 section 5.2); --compressed sets RSV1 (RFC 7692 section 6). */
static void make_frame(void) {
    static const uint8_t mask[4] = {0x12, 0x34, 0x56, 0x78};
    wire_size = payload_size();
    request = must(malloc(wire_size + 14));
    size_t n = 0;
    request[n++] = (uint8_t)(0x80 | (options.compressed ? 0x40 : 0) | (options.text ? 1 : 2));
    if (wire_size < 126) {
        request[n++] = (uint8_t)(0x80 | wire_size);
    } else {
        int octets = wire_size < 65536 ? 2 : 8;
        request[n++] = (uint8_t)(0x80 | (octets == 2 ? 126 : 127));
        for (int i = octets - 1; i >= 0; i--) request[n++] = (uint8_t)((uint64_t)wire_size >> 8 * i);
    }
    memcpy(request + n, mask, 4);
    n += 4;
    if (options.payload) read_payload(request + n);
    else
        for (size_t i = 0; i < wire_size; i++) request[n + i] = (uint8_t)('a' + i % 26);
    for (size_t i = 0; i < wire_size; i++) request[n + i] ^= mask[i & 3];
    request_size = n + wire_size;
}

static const char FORWARDED[] =
    "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n";

static void make_requests(void) {
    /* The key is the example of RFC 6455 section 1.3, whose answer is known. */
    handshake_size = (size_t)snprintf(
        handshake, sizeof handshake,
        "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Origin: http://127.0.0.1:%d\r\n%s%s\r\n",
        options.path, options.port, options.port, options.proxied ? FORWARDED : "",
        options.offer_deflate
            ? "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
            : "");
    if (handshake_size >= sizeof handshake) fail("the path is too long");
    if (options.mode != HTTP) {
        make_frame();
        return;
    }
    request = must(malloc(1024));
    request_size = (size_t)snprintf((char *)request, 1024,
                                    "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept: */*\r\n%s\r\n",
                                    options.path, options.port, options.proxied ? FORWARDED : "");
}

static void watch(Connection *c, bool wants_write) {
    c->wants_write = wants_write;
    struct epoll_event event = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0),
                                .data.u32 = (uint32_t)(c - connections)};
    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
}

/* ---- TLS, or none ---- */

#ifdef WITH_TLS
static SSL_CTX *tls_context;

static void start_tls(void) {
    tls_context = must(SSL_CTX_new(TLS_client_method()));
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

static void add_tls(Connection *c) {
    c->tls = must(SSL_new(tls_context));
    SSL_set_fd(c->tls, c->fd);
    SSL_set_connect_state(c->tls);
}

static void drop_tls(Connection *c) {
    SSL_free(c->tls);
    c->tls = NULL;
}

/* The result of a call of OpenSSL as read() and send() return it. */
static ssize_t result_of(Connection *c, int n) {
    if (n > 0) return n;
    int error = SSL_get_error(c->tls, n);
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPROTO;
    return -1;
}

static bool is_secured(Connection *c) {
    ssize_t n = result_of(c, SSL_do_handshake(c->tls));
    if (!n || (n < 0 && errno != EAGAIN)) fail("the TLS handshake failed");
    return n > 0;
}

static ssize_t read_tls(Connection *c, void *into, size_t size) {
    return result_of(c, SSL_read(c->tls, into, (int)size));
}

static ssize_t send_tls(Connection *c, const void *data, size_t size) {
    return result_of(c, SSL_write(c->tls, data, (int)size));
}
#else
static void start_tls(void) { fail("compiled without TLS: the headers of OpenSSL are missing"); }
static void add_tls(Connection *c) { (void)c; }
static void drop_tls(Connection *c) { (void)c; }
static bool is_secured(Connection *c) { return c->tls == NULL; }
static ssize_t read_tls(Connection *c, void *into, size_t size) { return read(c->fd, into, size); }
static ssize_t send_tls(Connection *c, const void *data, size_t size) {
    return send(c->fd, data, size, MSG_NOSIGNAL);
}
#endif

/* Writes as much as the socket accepts; the rest follows on EPOLLOUT. */
static size_t write_some(Connection *c, const void *data, size_t size) {
    ssize_t n = c->tls ? send_tls(c, data, size) : send(c->fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) fail("the server reset a connection (%s)", strerror(errno));
    return n < 0 ? 0 : (size_t)n;
}

static void flush(Connection *c) {
    if (c->out_left) c->out_left -= write_some(c, request + request_size - c->out_left, c->out_left);
    if (!c->out_left && c->reply_size) {
        if (write_some(c, c->reply, c->reply_size) != c->reply_size) fail("no room for a Pong");
        c->reply_size = 0;
    }
    if ((c->out_left != 0) != c->wants_write) watch(c, c->out_left != 0);
}

static void send_request(Connection *c) {
    c->is_waiting = true;
    c->sent = now();
    c->out_left = request_size;
    flush(c);
}

static void send_small(Connection *c, const void *data, size_t size) {
    if (write_some(c, data, size) != size) fail("no room for %zu bytes", size);
}

static void send_pong(Connection *c) {
    c->reply[0] = 0x8a;
    c->reply[1] = (uint8_t)(0x80 | c->control_size);
    memset(c->reply + 2, 0, 4); /* a masking key of zeros leaves the payload unchanged */
    memcpy(c->reply + 6, c->control, c->control_size);
    c->reply_size = (uint8_t)(6 + c->control_size);
    flush(c);
}

/* ---- open and close ---- */

static void dial(Connection *c) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) fail("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(c->number % ADDRESSES));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)options.port);
    int small = 4096; /* bytes: what the kernel takes for a frozen connection is little */
    if (c->number >= options.connections - options.frozen)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) fail("bind: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS)
        fail("connect: %s", strerror(errno));
    *c = (Connection){.fd = fd, .number = c->number, .head = c->head};
    struct epoll_event event = {.events = EPOLLOUT, .data.u32 = (uint32_t)(c - connections)};
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

static void redial(Connection *c) {
    if (c->tls) drop_tls(c);
    close(c->fd);
    dial(c);
}

static void opened(Connection *c) {
    c->state = OPEN;
    /* After the start, only when a server has closed a keep-alive connection. */
    if (board->start && options.mode == HTTP) send_request(c);
    else tally->opened++;
}

static void shake(Connection *c) {
    if (options.mode == HTTP) {
        opened(c);
        return;
    }
    c->state = SHAKING;
    send_small(c, handshake, handshake_size);
}

static void secure(Connection *c) {
    if (is_secured(c)) shake(c);
}

static void connected(Connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        if (++tally->refused > REFUSALS) fail("connect: %s", strerror(error));
        redial(c);
        return;
    }
    watch(c, false);
    if (!options.tls) {
        shake(c);
        return;
    }
    c->state = SECURING;
    add_tls(c);
    secure(c);
}

static void ended(Connection *c) {
    if (c->state == CLOSING) redial(c); /* a server may skip its Close */
    else if (options.mode == HTTP && c->answers && !c->head_size) redial(c);
    else fail("the server ended a connection %s", c->state == SHAKING ? "in its handshake" : "");
}

/* ---- incoming HTTP ---- */

/* Collects a response's head; returns the bytes consumed, and whether the head is complete. */
static size_t take_head(Connection *c, const uint8_t *data, size_t size, bool *is_whole) {
    if (!c->head) c->head = must(malloc(HEAD_MAX + 1));
    size_t before = c->head_size, room = HEAD_MAX - before, n = size < room ? size : room;
    memcpy(c->head + before, data, n);
    c->head_size += n;
    c->head[c->head_size] = 0;
    char *end = memmem(c->head, c->head_size, "\r\n\r\n", 4);
    *is_whole = end != NULL;
    if (!end) {
        if (c->head_size == HEAD_MAX) fail("a response's head has no end");
        return n;
    }
    size_t whole = (size_t)(end - c->head) + 4;
    c->head[whole] = 0;
    c->head_size = 0;
    return whole - before;
}

static void check_handshake(Connection *c) {
    if (strncmp(c->head, "HTTP/1.1 101", 12)) {
        c->head[strcspn(c->head, "\r\n")] = 0;
        fail("handshake: %s", c->head);
    }
    if (!strstr(c->head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) fail("handshake: wrong accept key");
    if (options.offer_deflate) {
        tally->deflate = strcasestr(c->head, "permessage-deflate") != NULL;
        if (options.compressed && !tally->deflate) fail("does not agree to permessage-deflate");
    }
}

static size_t shaken(Connection *c, const uint8_t *data, size_t size) {
    static const uint8_t close_frame[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
    bool is_whole;
    size_t taken = take_head(c, data, size, &is_whole);
    if (!is_whole) return taken;
    check_handshake(c);
    if (options.mode == CONNECT) {
        if (is_counted(now())) tally->done++;
        send_small(c, close_frame, sizeof close_frame);
        c->state = CLOSING;
        return taken;
    }
    free(c->head);
    c->head = NULL;
    if (options.mode == BALANCE || options.greeted) c->state = OPEN; /* its first message is to come */
    else opened(c);
    return taken;
}

/* In `fanout`: one of the messages of a round. */
static void arrived(size_t bytes) {
    static uint64_t arrivals;
    double at = now();
    if (is_counted(at)) {
        tally->done++;
        tally->bytes += bytes;
    }
    if (++arrivals < (uint64_t)count * (uint64_t)options.burst) return;
    arrivals = 0;
    record(connections[0].sent, at);
    send_request(&connections[0]);
}

/* ---- paced ---- */

enum { UNDER_WAY = 1 << 16 }; /* messages that may be under way to the slowest connection */

static double sent_at[UNDER_WAY];
static uint64_t sent_count;

static bool is_frozen(const Connection *c) {
    return c->number >= options.connections - options.frozen;
}

static void send_paced(double at) {
    while (at >= board->start + (double)sent_count / options.rate) {
        sent_at[sent_count++ % UNDER_WAY] = now();
        send_small(&connections[0], request, request_size);
    }
}

/* All messages come to each connection, in order. */
static void delivered(Connection *c, size_t bytes) {
    double at = now(), sent = sent_at[(uint64_t)c->answers++ % UNDER_WAY];
    record(sent, at);
    if (!is_counted(sent)) return;
    tally->done++;
    tally->bytes += bytes;
}

static void greeted(Connection *c) {
    c->is_greeted = true;
    if (is_frozen(c)) epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
    opened(c);
}

static void answered(Connection *c, size_t bytes) {
    double at = now();
    if (!c->is_waiting) fail("an answer that was not asked for");
    c->is_waiting = false;
    c->answers++;
    record(c->sent, at);
    if (is_counted(at)) {
        tally->done++;
        tally->bytes += bytes;
    }
    if (options.mode != HOLD) {
        send_request(c);
        return;
    }
    /* Messages that were due in the meantime are delayed as well. */
    for (double due = c->sent + 1 / options.rate; due < at; due += 1 / options.rate) {
        record(due, at);
        tally->kept_back++;
    }
}

static size_t take_response(Connection *c, const uint8_t *data, size_t size) {
    if (!c->body_left) {
        bool is_whole;
        size_t taken = take_head(c, data, size, &is_whole);
        if (!is_whole) return taken;
        if (strncmp(c->head, "HTTP/1.1 200", 12)) fail("response: %.40s", c->head);
        char *field = strcasestr(c->head, "\r\ncontent-length:");
        if (!field || !(c->body_left = strtoul(field + 17, NULL, 10)))
            fail("a response without Content-Length");
        return taken;
    }
    size_t n = size < c->body_left ? size : c->body_left;
    c->body_left -= n;
    if (!c->body_left) answered(c, n);
    return n;
}

/* ---- incoming frames ---- */

/* In `balance`: the id of the process that serves the connection. */
static void identified(Connection *c) {
    char text[sizeof c->control + 1] = {0};
    memcpy(text, c->control, c->control_size);
    int pid = atoi(text);
    if (pid <= 0) fail("the first message is not the id of a process");
    count_worker(tally, pid, 1);
    opened(c);
}

static void frame_ended(Connection *c) {
    int opcode = c->header[0] & 15;
    c->header_size = 0;
    if (opcode == 8 && c->state == CLOSING) {
        redial(c);
    } else if (opcode == 8) {
        fail("the server closed with %d", c->control[0] << 8 | c->control[1]);
    } else if (opcode == 9) {
        send_pong(c);
    } else if (options.mode == BALANCE) {
        identified(c);
    } else if (options.greeted && !c->is_greeted) {
        greeted(c);
    } else if (opcode < 8 && c->header[0] & 0x80) {
        if (!c->is_inflated && c->received != options.size && c->received != wire_size)
            fail("%llu bytes came back of %zu", (unsigned long long)c->received, options.size);
        if (options.mode == FANOUT) arrived(c->received);
        else if (options.mode == PACED) delivered(c, c->received);
        else answered(c, c->received);
    }
}

/* Whether the frame's payload is needed, not only its length. */
static bool is_collected(const Connection *c) {
    return (c->header[0] & 8) || options.mode == BALANCE;
}

/* Collects a frame's header byte by byte; returns whether it is complete. */
static bool take_header(Connection *c, uint8_t byte) {
    c->header[c->header_size++] = byte;
    if (c->header_size < 2) return false;
    int code = c->header[1] & 127, octets = code < 126 ? 0 : code == 126 ? 2 : 8;
    if (c->header_size < 2 + octets) return false;
    c->left = octets ? 0 : (uint64_t)code;
    for (int i = 0; i < octets; i++) c->left = c->left << 8 | c->header[2 + i];
    int opcode = c->header[0] & 15;
    c->control_size = 0;
    if (is_collected(c)) {
        if (c->left > sizeof c->control) fail("a frame of %d bytes", (int)c->left);
        return true;
    }
    if (opcode) {
        c->received = 0;
        c->is_inflated = (c->header[0] & 0x40) != 0;
    }
    c->received += c->left;
    return true;
}

static size_t take_frame(Connection *c, const uint8_t *data, size_t size) {
    if (!c->left) {
        if (take_header(c, *data) && !c->left) frame_ended(c);
        return 1;
    }
    size_t n = size < c->left ? size : (size_t)c->left;
    if (is_collected(c)) {
        memcpy(c->control + c->control_size, data, n);
        c->control_size = (uint8_t)(c->control_size + n);
    }
    c->left -= n;
    if (!c->left) frame_ended(c);
    return n;
}

static void readable(Connection *c) {
    if (c->state == SECURING) {
        secure(c);
        return;
    }
    /* TLS: one record, which is read whole. epoll reports those that the kernel still has. */
    ssize_t n = c->tls ? read_tls(c, buffer, sizeof buffer) : read(c->fd, buffer, sizeof buffer);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        ended(c);
        return;
    }
    for (size_t at = 0, size = (size_t)n; at < size;) {
        if (c->state == SHAKING) at += shaken(c, buffer + at, size - at);
        else if (options.mode == HTTP) at += take_response(c, buffer + at, size - at);
        else at += take_frame(c, buffer + at, size - at);
        /* Reconnected: the rest of the data belongs to the old connection. */
        if (c->state == CONNECTING) return;
    }
}

/* ---- a run ---- */

static bool all_open(void) {
    int opened = 0;
    for (int i = 0; i < processes; i++) opened += __atomic_load_n(&board->tallies[i].opened, 0);
    return opened == options.connections;
}

static void begin(void) {
    double none = 0, at = now();
    __atomic_compare_exchange(&board->start, &none, &at, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    if (options.mode == ECHO || options.mode == HTTP)
        for (int i = 0; i < count; i++) send_request(&connections[i]);
    if (options.mode == FANOUT) send_request(&connections[0]);
    if (tally == board->tallies &&
        (options.mode == IDLE || options.mode == HOLD || options.greeted)) {
        puts("open");
        fflush(stdout);
    }
}

/* In `hold`, the active connections send one after the other, evenly spaced in time. */
static void send_due(double at) {
    static uint64_t turn;
    int mine = options.active / processes, apart = mine ? count / mine : 0;
    if (!mine || !apart) return;
    for (;; turn++) {
        if (at < board->start + (double)turn / (options.rate * mine)) return;
        Connection *c = &connections[turn % (uint64_t)mine * (uint64_t)apart];
        if (!c->is_waiting) send_request(c);
    }
}

static void handle(const struct epoll_event *event) {
    Connection *c = &connections[event->data.u32];
    if (c->state == CONNECTING) {
        connected(c);
        return;
    }
    if (event->events & EPOLLOUT) flush(c);
    if (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

/* How many connections may have been dialled by now. */
static int allowed(double born, bool has_begun) {
    if (has_begun) return count;
    if (options.apart > 0) return 1 + (int)((now() - born) / options.apart);
    return tally->opened + (options.mode == BALANCE ? BURST : OPENING);
}

static void watch_input(void) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLHUP, .data.u32 = UINT32_MAX};
    if (options.mode == IDLE && epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event))
        fail("standard input has to be a pipe");
}

static void work(int number) {
    int first = (int)((long)options.connections * number / processes);
    count = (int)((long)options.connections * (number + 1) / processes) - first;
    connections = must(calloc((size_t)count, sizeof *connections));
    for (int i = 0; i < count; i++) connections[i].number = first + i;
    tally = &board->tallies[number];
    epoll = epoll_create1(0);
    watch_input();
    if (options.mode == CONNECT) board->start = now();
    double born = now(), heard = born, cpu = -1;
    uint64_t seen = 0;
    bool has_begun = options.mode == CONNECT;
    for (int dialled = 0;;) {
        for (int most = allowed(born, has_begun); dialled < count && dialled < most;)
            dial(&connections[dialled++]);
        struct epoll_event events[512];
        bool is_paced = options.mode == HOLD || options.mode == PACED;
        bool is_timed = options.apart > 0 || (is_paced && has_begun);
        int n = epoll_wait(epoll, events, 512, is_timed ? 1 : 20);
        for (int i = 0; i < n; i++) {
            if (events[i].data.u32 == UINT32_MAX) return; /* end of file on standard input */
            handle(&events[i]);
        }
        double at = now();
        if (!has_begun) {
            if (at - born > OPEN_SECONDS)
                fail("%d of %d open after %d s", tally->opened, count, OPEN_SECONDS);
            if ((has_begun = all_open())) begin();
            heard = at;
            continue;
        }
        if (options.mode == IDLE) continue;
        if (options.mode == BALANCE) break;
        if (options.mode == HOLD) send_due(at);
        if (options.mode == PACED) send_paced(at);
        if (cpu < 0 && is_counted(at)) cpu = cpu_seconds();
        if (tally->done != seen || !is_counted(at)) heard = at;
        seen = tally->done;
        bool is_over = at >= board->start + options.warm_up + options.seconds;
        /* A message may take longer than the run: wait for the first answer. */
        if (is_over && (seen || (options.mode == HOLD && !options.active))) break;
        if (at - heard > SILENT_SECONDS) fail("no answer for %d s", SILENT_SECONDS);
    }
    tally->cpu = cpu_seconds() - cpu;
    tally->end = now();
    for (int i = 0; i < count && options.mode == HOLD; i++)
        if (connections[i].is_waiting) record(connections[i].sent, now());
}

static void report(void) {
    Tally *all = &board->tallies[0];
    for (int i = 1; i < processes; i++) {
        Tally *one = &board->tallies[i];
        all->opened += one->opened;
        all->done += one->done;
        all->bytes += one->bytes;
        all->refused += one->refused;
        all->kept_back += one->kept_back;
        all->cpu += one->cpu;
        if (one->end > all->end) all->end = one->end;
        for (size_t k = 0; k < BUCKETS; k++) all->latencies[k] += one->latencies[k];
        for (int k = 0; k < WORKERS && one->workers[k].pid; k++)
            count_worker(all, one->workers[k].pid, one->workers[k].connections);
    }
    double elapsed = all->end - board->start - options.warm_up;
    if (elapsed <= 0) elapsed = 1; /* idle, balance */
    printf("{");
    if (options.mode == BALANCE) print_workers(all);
    printf("\"rate\": %.1f, \"megabytes\": %.1f, \"p50_ms\": %.3f, \"p99_ms\": %.3f, "
           "\"max_ms\": %.3f, \"open\": %d, \"refused\": %llu, \"kept_back\": %llu, "
           "\"generator_busy\": %.2f, \"processes\": %d, \"deflate\": %s}\n",
           (double)all->done / elapsed, (double)all->bytes / elapsed / 1e6,
           quantile(all, 0.5) * 1e3, quantile(all, 0.99) * 1e3, quantile(all, 1) * 1e3,
           all->opened, (unsigned long long)all->refused, (unsigned long long)all->kept_back,
           all->cpu / elapsed, processes, all->deflate ? "true" : "false");
}

/* Starts one child per share of the connections; the first failure ends the others. */
static int work_in_children(void) {
    pid_t children[processes];
    int status, is_failed = 0;
    for (int i = 0; i < processes; i++) {
        children[i] = fork();
        if (children[i] < 0) fail("fork: %s", strerror(errno));
        if (!children[i]) {
            work(i);
            _exit(0);
        }
    }
    while (wait(&status) > 0) {
        if (!status || is_failed) continue;
        is_failed = 1;
        for (int i = 0; i < processes; i++) kill(children[i], SIGKILL);
    }
    return is_failed;
}

static void raise_limits(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    struct rlimit more = {files.rlim_max, files.rlim_max};
    if (!setrlimit(RLIMIT_NOFILE, &more)) files = more;
    int each = (int)(files.rlim_cur > 1 << 20 ? 1 << 20 : files.rlim_cur) - SPARE_FILES;
    if (each < 1) fail("%d open files are too few", each + SPARE_FILES);
    processes = (options.connections + each - 1) / each;
}

static void parse(int argc, char **argv) {
    enum { PORT, PATH, CONNECTIONS, ACTIVE, TIMES, RATE, SIZE, PAYLOAD, TEXT, OFFER, PACKED, SECURE, PROXIED, SECONDS, WARM, APART, FROZEN, GREETED };
    static const struct option known[] = {
        {"port", required_argument, NULL, PORT},
        {"path", required_argument, NULL, PATH},
        {"connections", required_argument, NULL, CONNECTIONS},
        {"active", required_argument, NULL, ACTIVE},
        {"burst", required_argument, NULL, TIMES},
        {"rate", required_argument, NULL, RATE},
        {"size", required_argument, NULL, SIZE},
        {"payload", required_argument, NULL, PAYLOAD},
        {"text", no_argument, NULL, TEXT},
        {"offer-deflate", no_argument, NULL, OFFER},
        {"compressed", no_argument, NULL, PACKED},
        {"tls", no_argument, NULL, SECURE},
        {"proxied", no_argument, NULL, PROXIED},
        {"seconds", required_argument, NULL, SECONDS},
        {"warm-up", required_argument, NULL, WARM},
        {"apart", required_argument, NULL, APART},
        {"frozen", required_argument, NULL, FROZEN},
        {"greeted", no_argument, NULL, GREETED},
        {NULL, 0, NULL, 0},
    };
    int mode = 0, got;
    while (argc > 1 && mode <= PACED && strcmp(argv[1], MODES[mode])) mode++;
    if (argc < 2 || mode > PACED)
        fail("usage: load echo|connect|http|idle|hold|balance|fanout|paced --port PORT ...");
    options.mode = (Mode)mode;
    optind = 2;
    while ((got = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (got) {
        case PORT: options.port = atoi(optarg); break;
        case PATH: options.path = optarg; break;
        case CONNECTIONS: options.connections = atoi(optarg); break;
        case ACTIVE: options.active = atoi(optarg); break;
        case TIMES: options.burst = atoi(optarg); break;
        case RATE: options.rate = atof(optarg); break;
        case SIZE: options.size = strtoul(optarg, NULL, 10); break;
        case PAYLOAD: options.payload = optarg; break;
        case TEXT: options.text = true; break;
        case OFFER: options.offer_deflate = true; break;
        case PACKED: options.compressed = options.offer_deflate = true; break;
        case SECURE: options.tls = true; break;
        case PROXIED: options.proxied = true; break;
        case SECONDS: options.seconds = atof(optarg); break;
        case WARM: options.warm_up = atof(optarg); break;
        case APART: options.apart = atof(optarg); break;
        case FROZEN: options.frozen = atoi(optarg); break;
        case GREETED: options.greeted = true; break;
        default: _exit(2);
        }
    }
    if (!options.port || options.connections < 1 || options.rate <= 0) fail("see load.c for usage");
}

int main(int argc, char **argv) {
    parse(argc, argv);
    raise_limits();
    if (options.mode >= FANOUT && processes > 1) fail("the mode needs more open files");
    if (options.tls) start_tls();
    make_requests();
    size_t size = sizeof *board + (size_t)processes * sizeof *board->tallies;
    board = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) fail("mmap: %s", strerror(errno));
    if (processes == 1) work(0);
    else if (work_in_children()) return 1;
    report();
    return 0;
}
