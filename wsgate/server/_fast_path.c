/* The common path of one whole message, in and out. fast_path.py has the plain twins of all three
 * bases here, with their documentation.
 *
 * Nothing here looks into the bytes of a client: the codec's functions do, which are called by name.
 * Whatever is not common is left to the Python subclasses.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>
#include <sys/socket.h>

#include "_message_meter.h"

#ifndef MSG_NOSIGNAL /* macOS; Python ignores SIGPIPE everywhere */
#define MSG_NOSIGNAL 0
#endif

/* As in fast_path.py. */
enum { MAX_DELAYED = 65536, FIRST_WRITE = -3, UNKNOWN = -2, RECENT = 4, MAX_FLUSHED = 1024 };

/* Names that are looked up for each message: made once, and kept. */
#define NAMES(F) \
    F(data) F(is_idle) F(can_send) F(is_shut) F(done) F(set_result) F(read_message) F(is_pong) F(pong_received) \
    F(message) F(encoding) F(write) F(is_closing) F(get_write_buffer_size) F(type) F(text) F(bytes) \
    F(put_other) F(schedule) F(write_failed) F(abort) F(find_descriptor) F(feed_other) \
    F(give_back) F(send_other) F(receive_other) F(wait_for_reader) F(throw) F(close) F(__await__) \
    F(frame_for) F(take_share)

static struct {
#define FIELD(name) PyObject *name;
    NAMES(FIELD)
    PyObject *websocket_send, *websocket_receive;
} names;

/* A member as a new reference: whatever is called meanwhile may replace the member. NULL with an
 * exception set if the member was never set, or was deleted. */
static PyObject *
own(PyObject *member, const char *name)
{
    if (member == NULL)
        PyErr_SetString(PyExc_AttributeError, name);
    return Py_XNewRef(member);
}

/* Whether an attribute of an object is what it should be; -1 with an exception set. */
static int
holds(PyObject *object, PyObject *name, PyObject *wanted)
{
    PyObject *value, *owner = own(object, "session or gate");

    if (owner == NULL)
        return -1;
    value = PyObject_GetAttr(owner, name);
    Py_DECREF(owner);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == wanted;
}

/* Whether what a method of a transport returns is false; -1 with an exception set. */
static int
is_false(PyObject *object, PyObject *method)
{
    PyObject *value, *owner = own(object, "transport");
    int truth;

    if (owner == NULL)
        return -1;
    value = PyObject_CallMethodNoArgs(owner, method);
    Py_DECREF(owner);
    if (value == NULL)
        return -1;
    truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth < 0 ? -1 : !truth;
}

/* Call a method and drop what it returns; -1 with an exception set. */
static int
call(PyObject *object, PyObject *method)
{
    PyObject *value = PyObject_CallMethodNoArgs(object, method);
    Py_XDECREF(value);
    return value == NULL ? -1 : 0;
}

/* -- one connection ---------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *driver;
    PyObject *transport;
    PyObject *batch;
    PyObject *pending;
    int fd;
    char is_lost;
    char is_transport_empty; /* the kernel took the last bytes: the transport has none */
} Stream;

/* -- what a worker writes and encodes during one loop iteration -------------------------------- */

typedef struct {
    PyObject *payload;
    PyObject *encoding;
    PyObject *frame;
} RememberedFrame;

typedef struct {
    PyObject_HEAD
    PyObject *streams;
    RememberedFrame recent[RECENT];
    unsigned int next; /* of `recent`, the one to replace */
    MessageMeter *message_meter; /* NULL while metrics are off */
    char is_scheduled;
    char has_late;
} WriteBatch;

static PyTypeObject *write_batch_type; /* of this module, which is loaded once */

static int
ensure_scheduled(WriteBatch *self)
{
    return self->is_scheduled ? 0 : call((PyObject *)self, names.schedule);
}

/* Keep bytes until the end of this iteration if nothing speaks against it: 1 if they were kept, 0
 * if not, -1 with an exception set. Whether the transport is closing is asked by the flush. */
static int
keep(WriteBatch *self, Stream *stream, PyObject *data)
{
    int is_empty = 1;

    if (stream->pending != Py_None || !PyBytes_CheckExact(data) ||
        PyBytes_GET_SIZE(data) >= MAX_DELAYED)
        return 0;
    if (!stream->is_transport_empty)
        is_empty = is_false(stream->transport, names.get_write_buffer_size);
    if (is_empty != 1)
        return is_empty;
    if (ensure_scheduled(self) < 0 || PyList_Append(self->streams, (PyObject *)stream) < 0)
        return -1;
    Py_SETREF(stream->pending, Py_NewRef(data));
    return 1;
}

static PyTypeObject *stream_type;

static PyObject *
batch_put(WriteBatch *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *call_args[3] = {(PyObject *)self, NULL, NULL};
    int kept;

    if (count != 2 || !PyObject_TypeCheck(args[0], stream_type)) {
        PyErr_SetString(PyExc_TypeError, "put(stream: Stream, data: bytes)");
        return NULL;
    }
    kept = keep(self, (Stream *)args[0], args[1]);
    if (kept < 0)
        return NULL;
    if (kept)
        Py_RETURN_TRUE;
    call_args[1] = args[0];
    call_args[2] = args[1];
    return PyObject_VectorcallMethod(names.put_other, call_args, 3, NULL);
}

static void
forget_recent(WriteBatch *self)
{
    for (int i = 0; i < RECENT; i++) {
        Py_CLEAR(self->recent[i].payload);
        Py_CLEAR(self->recent[i].encoding);
        Py_CLEAR(self->recent[i].frame);
    }
}

static int
remember(WriteBatch *self, PyObject *payload, PyObject *encoding, PyObject *frame)
{
    RememberedFrame *entry;

    if (ensure_scheduled(self) < 0)
        return -1;
    entry = &self->recent[self->next++ % RECENT];
    Py_XSETREF(entry->payload, Py_NewRef(payload));
    Py_XSETREF(entry->encoding, Py_NewRef(encoding));
    Py_XSETREF(entry->frame, Py_NewRef(frame));
    return 0;
}

/* A message's frame, a new reference; NULL with an exception set. */
static PyObject *
frame_of(WriteBatch *self, PyObject *codec, PyObject *payload)
{
    PyObject *frame, *encoding = PyObject_GetAttr(codec, names.encoding);

    if (encoding == NULL)
        return NULL;
    for (int i = 0; i < RECENT; i++)
        if (self->recent[i].payload == payload && self->recent[i].encoding == encoding) {
            Py_DECREF(encoding);
            return Py_NewRef(self->recent[i].frame);
        }
    frame = PyObject_CallMethodOneArg(codec, names.message, payload);
    if (frame != NULL && !PyBytes_CheckExact(frame)) {
        PyErr_SetString(PyExc_TypeError, "a frame is bytes");
        Py_CLEAR(frame);
    }
    if (frame != NULL && encoding != Py_None && remember(self, payload, encoding, frame) < 0)
        Py_CLEAR(frame);
    Py_DECREF(encoding);
    return frame;
}

static PyObject *
batch_frame(WriteBatch *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "frame(codec: FrameCodec, payload: str | bytes)");
        return NULL;
    }
    return frame_of(self, args[0], args[1]);
}

/* How many bytes the kernel took of a stream's; for an error 0, which the transport then meets, too.
 * The lock of the interpreter is kept: the call does not block, and takes some microseconds. */
static Py_ssize_t
send_directly(Stream *stream, const char *data, Py_ssize_t size)
{
    Py_ssize_t sent = 0;

    if (stream->fd >= 0)
        sent = send(stream->fd, data, (size_t)size, MSG_DONTWAIT | MSG_NOSIGNAL);
    else if (stream->fd == FIRST_WRITE)
        stream->fd = UNKNOWN;
    return sent < 0 ? 0 : sent;
}

static int
find_descriptor(Stream *stream)
{
    PyObject *found = PyObject_CallMethodNoArgs((PyObject *)stream, names.find_descriptor);
    long fd;

    if (found == NULL)
        return -1;
    fd = PyLong_AsLong(found);
    Py_DECREF(found);
    if (fd == -1 && PyErr_Occurred())
        return -1;
    stream->fd = (int)fd;
    return 0;
}

/* Leave to the transport what the kernel did not take. */
static int
write_rest(Stream *stream, PyObject *data, Py_ssize_t sent)
{
    PyObject *rest, *transport, *done = NULL;

    stream->is_transport_empty = 0;
    rest = sent ? PySequence_GetSlice(data, sent, PY_SSIZE_T_MAX) : Py_NewRef(data);
    transport = own(stream->transport, "transport");
    if (rest != NULL && transport != NULL)
        done = PyObject_CallMethodOneArg(transport, names.write, rest);
    Py_XDECREF(rest);
    Py_XDECREF(transport);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Send what is pending for a stream. */
static int
flush_stream(Stream *stream)
{
    PyObject *data = stream->pending;
    Py_ssize_t size, sent;
    const char *start;
    int failed = 0, is_open;

    stream->pending = Py_NewRef(Py_None);
    is_open = data == Py_None ? 0 : is_false(stream->transport, names.is_closing);
    if (is_open == 1 && stream->fd == UNKNOWN && find_descriptor(stream) < 0)
        is_open = -1;
    if (is_open == 1) {
        start = PyBytes_Check(data) ? PyBytes_AS_STRING(data) : PyByteArray_AS_STRING(data);
        size = Py_SIZE(data);
        sent = send_directly(stream, start, size);
        stream->is_transport_empty = sent == size;
        failed = sent < size ? write_rest(stream, data, sent) : 0;
    }
    Py_DECREF(data);
    return is_open < 0 ? -1 : failed;
}

/* Flush a stream of the list; if that fails, abort it, because some of its bytes may be lost. -1 with
 * the exception of the flush set. */
static int
flush_or_abort(PyObject *stream)
{
    PyObject *type, *value, *traceback;

    if (!PyObject_TypeCheck(stream, stream_type)) {
        PyErr_SetString(PyExc_TypeError, "streams has only instances of Stream");
        return -1;
    }
    if (flush_stream((Stream *)stream) == 0)
        return 0;
    PyErr_Fetch(&type, &value, &traceback);
    if (call(stream, names.abort) < 0)
        PyErr_Clear(); /* the first exception says enough */
    PyErr_Restore(type, value, traceback);
    return -1;
}

/* How many objects ahead what a write to a connection reads is loaded: of hundreds of connections none
 * is in the cache, and each would wait for one object after the other. */
enum { AHEAD = 4 };

/* Load what the flush of a later stream reads. */
static void
prefetch_streams(PyObject *streams, Py_ssize_t i)
{
    Py_ssize_t size = PyList_GET_SIZE(streams);

    if (i + 2 * AHEAD < size)
        __builtin_prefetch(PyList_GET_ITEM(streams, i + 2 * AHEAD));
    if (i + AHEAD < size && PyObject_TypeCheck(PyList_GET_ITEM(streams, i + AHEAD), stream_type)) {
        Stream *stream = (Stream *)PyList_GET_ITEM(streams, i + AHEAD);

        __builtin_prefetch(stream->transport);
        __builtin_prefetch(stream->pending);
    }
}

/* What of the streams this iteration flushes, a new list; the reference to `streams` is taken over. */
static PyObject *
take_share(WriteBatch *self, PyObject *streams)
{
    PyObject *share = PyObject_CallMethodOneArg((PyObject *)self, names.take_share, streams);

    Py_DECREF(streams);
    if (share != NULL && !PyList_CheckExact(share)) {
        PyErr_SetString(PyExc_TypeError, "take_share returns a list");
        Py_CLEAR(share);
    }
    return share;
}

static PyObject *
batch_flush(WriteBatch *self, PyObject *unused)
{
    PyObject *streams = self->streams, *fresh = PyList_New(0);
    PyObject *type = NULL, *value = NULL, *traceback = NULL;

    (void)unused;
    if (fresh == NULL)
        return NULL;
    self->streams = fresh;
    self->is_scheduled = 0;
    forget_recent(self);
    if (self->has_late || PyList_GET_SIZE(streams) > MAX_FLUSHED)
        streams = take_share(self, streams);
    if (streams == NULL)
        return NULL;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(streams); i++) {
        PyObject *stream = Py_NewRef(PyList_GET_ITEM(streams, i));
        int failed;

        prefetch_streams(streams, i);
        failed = flush_or_abort(stream);

        Py_DECREF(stream);
        if (!failed)
            continue;
        if (type == NULL)
            PyErr_Fetch(&type, &value, &traceback);
        else
            PyErr_Clear(); /* one of them is enough to know of */
    }
    Py_DECREF(streams);
    if (type == NULL)
        Py_RETURN_NONE;
    PyErr_Restore(type, value, traceback);
    return NULL;
}

static PyObject *
batch_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    WriteBatch *self = (WriteBatch *)type->tp_alloc(type, 0);

    (void)args;
    (void)kwargs; /* the subclass's __init__ takes them */
    if (self == NULL)
        return NULL;
    self->streams = PyList_New(0);
    if (self->streams == NULL)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static int
batch_traverse(WriteBatch *self, visitproc visit, void *arg)
{
    Py_VISIT(self->streams);
    Py_VISIT(self->message_meter);
    for (int i = 0; i < RECENT; i++) {
        Py_VISIT(self->recent[i].payload);
        Py_VISIT(self->recent[i].encoding);
        Py_VISIT(self->recent[i].frame);
    }
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
batch_clear(WriteBatch *self)
{
    forget_recent(self);
    Py_CLEAR(self->message_meter);
    if (self->streams != NULL)
        return PyList_SetSlice(self->streams, 0, PY_SSIZE_T_MAX, NULL);
    return 0;
}

static void
batch_dealloc(WriteBatch *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    forget_recent(self);
    Py_CLEAR(self->message_meter);
    Py_CLEAR(self->streams);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
get_message_meter(WriteBatch *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->message_meter == NULL ? Py_None : (PyObject *)self->message_meter);
}

static int
set_message_meter(WriteBatch *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL || (value != Py_None && !PyObject_TypeCheck(value, message_meter_type))) {
        PyErr_SetString(PyExc_TypeError, "message_meter is a MessageMeter or None");
        return -1;
    }
    Py_XSETREF(self->message_meter,
               value == Py_None ? NULL : (MessageMeter *)Py_NewRef(value));
    return 0;
}

static PyGetSetDef batch_properties[] = {
    {"message_meter", (getter)get_message_meter, (setter)set_message_meter, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef batch_members[] = {
    {"streams", T_OBJECT_EX, offsetof(WriteBatch, streams), READONLY, NULL},
    {"is_scheduled", T_BOOL, offsetof(WriteBatch, is_scheduled), 0, NULL},
    {"has_late", T_BOOL, offsetof(WriteBatch, has_late), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef batch_methods[] = {
    {"put", (PyCFunction)(void (*)(void))batch_put, METH_FASTCALL, NULL},
    {"frame", (PyCFunction)(void (*)(void))batch_frame, METH_FASTCALL, NULL},
    {"flush", (PyCFunction)(void (*)(void))batch_flush, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot batch_slots[] = {
    {Py_tp_doc, "What fast_path.py's PlainWriteBatch is, compiled."},
    {Py_tp_new, batch_new},
    {Py_tp_traverse, batch_traverse},
    {Py_tp_clear, batch_clear},
    {Py_tp_dealloc, batch_dealloc},
    {Py_tp_members, batch_members},
    {Py_tp_getset, batch_properties},
    {Py_tp_methods, batch_methods},
    {0, NULL},
};

static PyType_Spec batch_spec = {
    .name = "wsgate.server._fast_path.WriteBatch",
    .basicsize = sizeof(WriteBatch),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = batch_slots,
};

/* -- one connection: its methods --------------------------------------------------------------- */

static PyObject *
data_received(Stream *self, PyObject *data)
{
    PyObject *done, *driver = own(self->driver, "driver"); /* it may hand the connection on */

    if (driver == NULL)
        return NULL;
    done = PyObject_CallMethodOneArg(driver, names.data, data);
    Py_DECREF(driver);
    return done;
}

/* What put_other and write_failed do: 0, or -1 with an exception set. */
static int
put_other(PyObject *batch, Stream *self, PyObject *data)
{
    PyObject *arguments[3] = {batch, (PyObject *)self, data};
    PyObject *done = PyObject_VectorcallMethod(names.put_other, arguments, 3, NULL);

    if (done == Py_False) {
        Py_DECREF(done);
        done = PyObject_CallMethodNoArgs((PyObject *)self, names.write_failed);
    }
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Send bytes: 1 if they leave at the end of this iteration, 0 if they were written in another way or
 * not at all, -1 with an exception set. */
static int
write_bytes(Stream *self, PyObject *data)
{
    PyObject *batch;
    int kept, is_empty = PyObject_Not(data);

    if (is_empty || self->is_lost)
        return is_empty < 0 ? -1 : 0;
    batch = own(self->batch, "batch");
    if (batch == NULL)
        return -1;
    if (!PyObject_TypeCheck(batch, write_batch_type)) {
        PyErr_SetString(PyExc_TypeError, "batch is a WriteBatch");
        kept = -1;
    }
    else {
        kept = keep((WriteBatch *)batch, self, data);
        if (kept == 0)
            kept = put_other(batch, self, data);
    }
    Py_DECREF(batch);
    return kept;
}

static PyObject *
stream_write(Stream *self, PyObject *data)
{
    if (write_bytes(self, data) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* Whether bytes could leave now: none wait before them; -1 with an exception set. */
static int
has_nothing_unsent(Stream *self)
{
    if (self->is_lost || self->pending != Py_None)
        return 0;
    return self->is_transport_empty || is_false(self->transport, names.get_write_buffer_size);
}

static PyObject *
stream_write_at_once(Stream *self, PyObject *data)
{
    int is_sent = has_nothing_unsent(self);

    if (is_sent == 0 || (is_sent > 0 && !PyBytes_CheckExact(data)))
        return write_bytes(self, data) < 0 ? NULL : Py_NewRef(Py_False);
    if (is_sent > 0) {
        Py_SETREF(self->pending, Py_NewRef(data));
        is_sent = flush_or_abort((PyObject *)self) < 0 ? -1 : has_nothing_unsent(self);
    }
    return is_sent < 0 ? NULL : PyBool_FromLong(is_sent);
}

static PyObject *
stream_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Stream *self = (Stream *)type->tp_alloc(type, 0);

    (void)args;
    (void)kwargs;
    if (self == NULL)
        return NULL;
    self->pending = Py_NewRef(Py_None);
    self->fd = FIRST_WRITE;
    return (PyObject *)self;
}

static int
stream_traverse(Stream *self, visitproc visit, void *arg)
{
    Py_VISIT(self->driver);
    Py_VISIT(self->transport);
    Py_VISIT(self->batch);
    Py_VISIT(self->pending);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
stream_clear(Stream *self)
{
    Py_CLEAR(self->driver);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->batch);
    Py_SETREF(self->pending, Py_NewRef(Py_None)); /* never NULL, nor of another type */
    return 0;
}

static void
stream_dealloc(Stream *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->driver);
    Py_CLEAR(self->transport);
    Py_CLEAR(self->batch);
    Py_CLEAR(self->pending);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyObject *
get_pending(Stream *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->pending);
}

static int
set_pending(Stream *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL || (value != Py_None && !PyBytes_Check(value) && !PyByteArray_Check(value))) {
        PyErr_SetString(PyExc_TypeError, "pending is bytes, a bytearray or None");
        return -1;
    }
    Py_SETREF(self->pending, Py_NewRef(value));
    return 0;
}

static PyGetSetDef stream_properties[] = {
    {"pending", (getter)get_pending, (setter)set_pending, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_members[] = {
    {"driver", T_OBJECT_EX, offsetof(Stream, driver), 0, NULL},
    {"transport", T_OBJECT_EX, offsetof(Stream, transport), 0, NULL},
    {"batch", T_OBJECT_EX, offsetof(Stream, batch), 0, NULL},
    {"fd", T_INT, offsetof(Stream, fd), 0, NULL},
    {"is_lost", T_BOOL, offsetof(Stream, is_lost), 0, NULL},
    {"is_transport_empty", T_BOOL, offsetof(Stream, is_transport_empty), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef stream_methods[] = {
    {"data_received", (PyCFunction)(void (*)(void))data_received, METH_O, NULL},
    {"write", (PyCFunction)(void (*)(void))stream_write, METH_O, NULL},
    {"write_at_once", (PyCFunction)(void (*)(void))stream_write_at_once, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc, "What fast_path.py's PlainStream is, compiled."},
    {Py_tp_new, stream_new},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_members, stream_members},
    {Py_tp_getset, stream_properties},
    {Py_tp_methods, stream_methods},
    {0, NULL},
};

static PyType_Spec stream_spec = {
    .name = "wsgate.server._fast_path.Stream",
    .basicsize = sizeof(Stream),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = stream_slots,
};

/* -- one WebSocket: its messages --------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *session;
    PyObject *wire;
    PyObject *gate;
    PyObject *codec;
    PyObject *batch;
    PyObject *create_future;
    PyObject *max_size;
    PyObject *receiver;
    PyObject *queue;
    Py_ssize_t received_messages;
    Py_ssize_t received_bytes;
    Py_ssize_t sent_messages;
    Py_ssize_t sent_bytes;
    double handed_at; /* when the app got its last event, by the meter's clock; 0 while it waits */
    char is_open;
    char counts_each;
} MessagePath;

/* The message meter of the worker, NULL while metrics are off. */
static MessageMeter *
meter_of(MessagePath *self)
{
    PyObject *batch = self->batch;

    return PyObject_TypeCheck(batch, write_batch_type) ? ((WriteBatch *)batch)->message_meter : NULL;
}

/* Count the event that the app had until now; -1 with an exception set. */
static int
end_event(MessagePath *self)
{
    MessageMeter *meter = meter_of(self);
    double now;

    if (meter == NULL || self->handed_at == 0.0)
        return 0;
    Py_INCREF(meter); /* a clock in Python may replace it */
    now = meter_now(meter);
    if (now >= 0.0)
        record_event(meter, now - self->handed_at);
    Py_DECREF(meter);
    self->handed_at = 0.0;
    return now < 0.0 && PyErr_Occurred() ? -1 : 0;
}

/* Note that the app gets an event now; -1 with an exception set. */
static int
begin_event(MessagePath *self)
{
    MessageMeter *meter = meter_of(self);
    double now;

    if (meter == NULL)
        return 0;
    Py_INCREF(meter); /* as above */
    now = meter_now(meter);
    Py_DECREF(meter);
    if (now < 0.0 && PyErr_Occurred())
        return -1;
    self->handed_at = now;
    return 0;
}

/* The message that `data` is if this receiver waits for it; else NULL, without an exception. */
static PyObject *
read_awaited(MessagePath *self, PyObject *receiver, PyObject *data)
{
    PyObject *arguments[3], *message = NULL, *done;

    if (self->counts_each || receiver == Py_None)
        return NULL;
    done = PyObject_CallMethodNoArgs(receiver, names.done);
    Py_XDECREF(done);
    if (done != Py_False)
        return NULL;
    arguments[0] = own(self->codec, "codec");
    arguments[1] = data;
    arguments[2] = own(self->max_size, "max_size");
    if (arguments[0] != NULL && arguments[2] != NULL)
        message = PyObject_VectorcallMethod(names.read_message, arguments, 3, NULL);
    Py_XDECREF(arguments[0]);
    Py_XDECREF(arguments[2]);
    if (message == Py_None)
        Py_CLEAR(message);
    return message;
}

/* Whether `data` is a lone Pong, which is not parsed; -1 with an exception set. */
static int
is_pong(MessagePath *self, PyObject *data)
{
    PyObject *answer = NULL, *codec = own(self->codec, "codec");

    if (codec != NULL)
        answer = PyObject_CallMethodOneArg(codec, names.is_pong, data);
    Py_XDECREF(codec);
    Py_XDECREF(answer);
    return answer == NULL ? -1 : answer == Py_True;
}

/* Process bytes that are no message for a waiting receiver. `is_idle`: they may be a lone Pong. */
static PyObject *
take_other(MessagePath *self, PyObject *data, int is_idle)
{
    int is_only_pong = is_idle ? is_pong(self, data) : 0;

    if (is_only_pong < 0)
        return NULL;
    if (!is_only_pong)
        return PyObject_CallMethodOneArg((PyObject *)self, names.feed_other, data);
    self->received_bytes += PyBytes_GET_SIZE(data);
    return PyObject_CallMethodNoArgs((PyObject *)self, names.pong_received);
}

static PyObject *
path_data(MessagePath *self, PyObject *data)
{
    PyObject *receiver = own(self->receiver, "receiver"), *set, *message = NULL;
    int is_idle = 0;

    if (receiver == NULL)
        return NULL;
    if (PyBytes_CheckExact(data))
        is_idle = holds(self->session, names.is_idle, Py_True);
    if (is_idle == 1)
        message = read_awaited(self, receiver, data);
    if (message == NULL) {
        Py_DECREF(receiver);
        return PyErr_Occurred() ? NULL : take_other(self, data, is_idle);
    }
    self->received_bytes += PyBytes_GET_SIZE(data);
    self->received_messages++;
    if (meter_of(self) != NULL)
        record_size(&meter_of(self)->received, message, 1);
    Py_XSETREF(self->receiver, Py_NewRef(Py_None));
    set = PyObject_CallMethodOneArg(receiver, names.set_result, message);
    Py_DECREF(receiver);
    Py_DECREF(message);
    return set;
}

/* The arrival of the next message, None where it is not simply the next one to arrive. */
static PyObject *
path_expect(MessagePath *self, PyObject *unused)
{
    PyObject *create_future, *future;

    (void)unused;
    if (!self->is_open || self->receiver != Py_None || self->queue != Py_None)
        Py_RETURN_NONE;
    switch (holds(self->session, names.is_idle, Py_True)) {
    case -1:
        return NULL;
    case 0:
        Py_RETURN_NONE;
    }
    create_future = own(self->create_future, "create_future");
    if (create_future == NULL)
        return NULL;
    future = PyObject_CallNoArgs(create_future);
    Py_DECREF(create_future);
    if (future != NULL)
        Py_XSETREF(self->receiver, Py_NewRef(future));
    return future;
}

/* A value of the app's message as a new reference, because a key of another class may change the
 * dict while the next one is looked up. Py_None if it is missing; NULL with an exception set. */
static PyObject *
value_of(PyObject *message, PyObject *name)
{
    PyObject *value = PyDict_GetItemWithError(message, name);

    if (value == NULL && PyErr_Occurred())
        return NULL;
    return Py_NewRef(value == NULL ? Py_None : value);
}

/* Whether a message is a `websocket.send`; -1 with an exception set. */
static int
is_send(PyObject *message)
{
    PyObject *type = value_of(message, names.type);
    int answer;

    if (type == NULL)
        return -1;
    answer = type == names.websocket_send ||
             (PyUnicode_CheckExact(type) && PyUnicode_Compare(type, names.websocket_send) == 0);
    Py_DECREF(type);
    return answer;
}

/* What a common `websocket.send` carries, a new reference; NULL where it is another message, without
 * an exception but that of a key. The twin of common_payload in asgi/websocket.py. */
static PyObject *
common_payload(PyObject *message)
{
    PyObject *text, *bytes, *payload = NULL;

    if (!PyDict_CheckExact(message) || is_send(message) != 1)
        return NULL;
    text = value_of(message, names.text);
    bytes = text == NULL ? NULL : value_of(message, names.bytes);
    if (bytes != NULL && text == Py_None && PyBytes_CheckExact(bytes))
        payload = Py_NewRef(bytes);
    else if (bytes == Py_None && PyUnicode_CheckExact(text))
        payload = Py_NewRef(text);
    Py_XDECREF(text);
    Py_XDECREF(bytes);
    return payload;
}

/* The frame of a message that can leave now, and its payload as another new reference; else NULL,
 * without an exception but the codec's.
 *
 * The batch is scheduled before the frame is made: with context takeover that changes the
 * compressor, so what may raise for an app at its recursion limit comes first. */
static PyObject *
framed(MessagePath *self, PyObject *message, PyObject **kept)
{
    PyObject *payload, *batch, *codec, *frame = NULL;

    if (!self->is_open || holds(self->session, names.can_send, Py_True) != 1 ||
        holds(self->gate, names.is_shut, Py_False) != 1)
        return NULL;
    payload = common_payload(message);
    if (payload == NULL)
        return NULL;
    batch = own(self->batch, "batch");
    codec = own(self->codec, "codec");
    if (batch != NULL && !PyObject_TypeCheck(batch, write_batch_type))
        PyErr_SetString(PyExc_TypeError, "batch is a WriteBatch");
    else if (batch != NULL && codec != NULL && ensure_scheduled((WriteBatch *)batch) == 0)
        frame = frame_of((WriteBatch *)batch, codec, payload);
    Py_XDECREF(batch);
    Py_XDECREF(codec);
    if (frame == NULL) {
        Py_DECREF(payload);
        if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            PyErr_Clear(); /* send_other reports it to the app */
        return NULL;
    }
    *kept = payload;
    return frame;
}

/* What became of a message. DELAYED: it leaves at the end of this iteration, and the gate is open. */
typedef enum { FAILED = -1, LEFT = 0, WRITTEN = 1, DELAYED = 2 } Sent;

static Sent
write_frame(PyObject *wire, PyObject *frame)
{
    PyObject *done;
    int delayed;

    if (PyObject_TypeCheck(wire, stream_type)) { /* which has no other `write` than that above */
        delayed = write_bytes((Stream *)wire, frame);
        return delayed < 0 ? FAILED : delayed ? DELAYED : WRITTEN;
    }
    done = PyObject_CallMethodOneArg(wire, names.write, frame);
    Py_XDECREF(done);
    return done == NULL ? FAILED : WRITTEN;
}

/* Load what a message to this client reads. A message to hundreds of clients finds none of it in the
 * cache, and would wait for one object after the other. */
static void
prefetch(MessagePath *self)
{
    __builtin_prefetch(self->session);
    __builtin_prefetch(self->gate);
    __builtin_prefetch(self->codec);
    __builtin_prefetch(self->wire);
}

static Sent
put(MessagePath *self, PyObject *message)
{
    PyObject *wire, *frame, *payload;
    Sent sent = FAILED;

    prefetch(self);
    frame = framed(self, message, &payload);
    if (frame == NULL)
        return PyErr_Occurred() ? FAILED : LEFT;
    wire = own(self->wire, "wire");
    if (wire != NULL)
        sent = write_frame(wire, frame);
    Py_XDECREF(wire);
    if (sent != FAILED) {
        self->sent_messages++;
        self->sent_bytes += PyBytes_GET_SIZE(frame);
        if (meter_of(self) != NULL)
            record_size(&meter_of(self)->sent, payload, 1);
    }
    Py_DECREF(payload);
    Py_DECREF(frame);
    return sent;
}

static PyObject *
path_put(MessagePath *self, PyObject *message)
{
    Sent sent = put(self, message);
    return sent == FAILED ? NULL : PyBool_FromLong(sent != LEFT);
}

/* -- one message to many WebSockets ------------------------------------------------------------ */

static PyTypeObject *path_type;

/* The latest frame of a message, with its encoding: nearly all sockets have the same. */
typedef struct {
    PyObject *encoded;
    PyObject *encoding;
    PyObject *frame;
} Shared;

/* The frame for a socket, a borrowed reference; NULL where its frames are its own, without an
 * exception but the codec's. */
static PyObject *
shared_frame(Shared *shared, MessagePath *path)
{
    PyObject *codec = own(path->codec, "codec"), *encoding, *frame;

    encoding = codec == NULL ? NULL : PyObject_GetAttr(codec, names.encoding);
    if (encoding == NULL || encoding == Py_None || encoding == shared->encoding) {
        Py_XDECREF(codec);
        Py_XDECREF(encoding); /* `shared` has another reference */
        return encoding == NULL || encoding == Py_None ? NULL : shared->frame;
    }
    frame = PyObject_CallMethodOneArg(shared->encoded, names.frame_for, codec);
    Py_DECREF(codec);
    if (frame == NULL || !PyBytes_CheckExact(frame)) {
        Py_XDECREF(frame);
        Py_DECREF(encoding);
        return NULL;
    }
    Py_XSETREF(shared->encoding, encoding);
    Py_XSETREF(shared->frame, frame);
    return frame;
}

/* Write a message to one socket, if it can leave now as it is for others. */
static Sent
deliver_to(PyObject *target, Shared *shared)
{
    MessagePath *path = (MessagePath *)target;
    PyObject *frame, *wire;
    Sent sent;

    if (!PyObject_TypeCheck(target, path_type) || !path->is_open ||
        holds(path->session, names.can_send, Py_True) != 1 ||
        holds(path->gate, names.is_shut, Py_False) != 1)
        return PyErr_Occurred() ? FAILED : LEFT;
    frame = shared_frame(shared, path);
    if (frame == NULL)
        return PyErr_Occurred() ? FAILED : LEFT;
    wire = own(path->wire, "wire");
    Py_INCREF(frame); /* what the write calls may deliver, too */
    sent = wire == NULL ? FAILED : write_frame(wire, frame);
    Py_XDECREF(wire);
    if (sent != FAILED) {
        path->sent_messages++;
        path->sent_bytes += PyBytes_GET_SIZE(frame);
    }
    Py_DECREF(frame);
    return sent;
}

/* Hand a socket to the caller's function; an error of the write is no reason to stop. */
static int
deliver_slowly(PyObject *slowly, PyObject *target, Sent sent)
{
    PyObject *done;

    if (sent == FAILED && !PyErr_ExceptionMatches(PyExc_Exception))
        return -1;
    PyErr_Clear(); /* the function meets it again, and reports it */
    done = PyObject_CallOneArg(slowly, target);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Load what the delivery to a later socket reads. */
static void
prefetch_ahead(PyObject *targets, Py_ssize_t i)
{
    Py_ssize_t size = PyList_GET_SIZE(targets);

    if (i + 2 * AHEAD < size) {
        char *path = (char *)PyList_GET_ITEM(targets, i + 2 * AHEAD);

        __builtin_prefetch(path);
        __builtin_prefetch(path + 64);
    }
    if (i + AHEAD < size && PyObject_TypeCheck(PyList_GET_ITEM(targets, i + AHEAD), path_type))
        prefetch((MessagePath *)PyList_GET_ITEM(targets, i + AHEAD));
}

static PyObject *
deliver_all(PyObject *targets, PyObject *excluded, PyObject *slowly, Shared *shared)
{
    Py_ssize_t count = 0;

    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(targets); i++) {
        PyObject *target = Py_NewRef(PyList_GET_ITEM(targets, i));
        int failed = 0;

        prefetch_ahead(targets, i);
        if (target != excluded) {
            Sent sent = deliver_to(target, shared);

            if (sent == FAILED || sent == LEFT)
                failed = deliver_slowly(slowly, target, sent);
            else
                count++;
        }
        Py_DECREF(target);
        if (failed)
            return NULL;
    }
    return PyLong_FromSsize_t(count);
}

static PyObject *
deliver(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Shared shared = {NULL, NULL, NULL};
    PyObject *delivered;

    (void)module;
    if (count != 4 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "deliver(targets: list, encoded, excluded, slowly)");
        return NULL;
    }
    shared.encoded = args[1];
    delivered = deliver_all(args[0], args[2], args[3], &shared);
    Py_XDECREF(shared.encoding);
    Py_XDECREF(shared.frame);
    return delivered;
}

/* -- what the app awaits ----------------------------------------------------------------------- */

typedef enum { CREATED, RUNNING, SUSPENDED, CLOSED } State;

/* One call of `send` or `receive`, as a coroutine: nothing happens before it is awaited.
 *
 * input: the message to send, NULL for a receive and once it was started. arrival: the future that a
 * receive waits for. inner: what is awaited now: the arrival's iterator, or the coroutine of the
 * subclass that took over. */
typedef struct {
    PyObject_HEAD
    MessagePath *path;
    PyObject *input;
    PyObject *arrival;
    PyObject *inner;
    PyObject *weak_references;
    char is_send;
    char state;
} Awaited;

static PyTypeObject *awaited_type;

/* PlainMessagePath.send and .receive: what introspection is told about, see Method. */
static PyObject *plain_send, *plain_receive;

static PyObject *
awaited(MessagePath *path, PyObject *input)
{
    Awaited *self = PyObject_GC_New(Awaited, awaited_type);

    if (self == NULL)
        return NULL;
    self->path = (MessagePath *)Py_NewRef((PyObject *)path);
    self->input = Py_XNewRef(input);
    self->arrival = self->inner = self->weak_references = NULL;
    self->is_send = input != NULL;
    self->state = CREATED;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* Send the message; the coroutine that goes on in `inner`, NULL where it is done. */
static int
start_send(Awaited *self)
{
    PyObject *message = self->input, *path = (PyObject *)self->path;
    Sent sent;
    int failed, is_shut;

    self->input = NULL;
    sent = put(self->path, message);
    failed = sent == FAILED ? -1 : 0;
    if (sent == WRITTEN) {
        is_shut = holds(self->path->gate, names.is_shut, Py_True);
        if (is_shut == 1 &&
            (self->inner = PyObject_CallMethodNoArgs(path, names.wait_for_reader)) == NULL)
            is_shut = -1;
        failed = is_shut < 0 ? -1 : 0;
    }
    else if (sent == LEFT &&
             (self->inner = PyObject_CallMethodOneArg(path, names.send_other, message)) == NULL)
        failed = -1;
    Py_DECREF(message);
    return failed;
}

static int
receive_other(Awaited *self)
{
    self->inner = PyObject_CallMethodNoArgs((PyObject *)self->path, names.receive_other);
    return self->inner == NULL ? -1 : 0;
}

static int
start_receive(Awaited *self)
{
    PyObject *arrival = end_event(self->path) < 0 ? NULL : path_expect(self->path, NULL);

    if (arrival == NULL)
        return -1;
    if (arrival == Py_None) {
        Py_DECREF(arrival);
        return receive_other(self);
    }
    self->arrival = arrival;
    self->inner = PyObject_CallMethodNoArgs(arrival, names.__await__);
    return self->inner == NULL ? -1 : 0;
}

/* The app's message with a payload, which is a new reference that is taken over. */
static PyObject *
receive_event(PyObject *payload)
{
    PyObject *event = PyDict_New();

    if (event != NULL &&
        (PyDict_SetItem(event, names.type, names.websocket_receive) < 0 ||
         PyDict_SetItem(event, PyUnicode_Check(payload) ? names.text : names.bytes, payload) < 0))
        Py_CLEAR(event);
    Py_DECREF(payload);
    return event;
}

static PySendResult step(Awaited *self, PyObject *value, PyObject **result);

/* Return an event to the app; the reference is dropped if that fails. */
static PySendResult
end_receive(Awaited *self, PyObject **result)
{
    if (begin_event(self->path) == 0)
        return PYGEN_RETURN;
    Py_CLEAR(*result);
    return PYGEN_ERROR;
}

/* Go on after `inner` has ended with *result. */
static PySendResult
finish(Awaited *self, PyObject **result)
{
    PyObject *value = *result;

    Py_CLEAR(self->inner);
    if (self->arrival == NULL)
        return self->is_send ? PYGEN_RETURN : end_receive(self, result);
    Py_CLEAR(self->arrival);
    if (value != Py_None) {
        *result = receive_event(value);
        return *result == NULL ? PYGEN_ERROR : end_receive(self, result);
    }
    Py_DECREF(value); /* only the session's state has changed */
    *result = NULL;
    return receive_other(self) < 0 ? PYGEN_ERROR : step(self, Py_None, result);
}

static PySendResult
step(Awaited *self, PyObject *value, PyObject **result)
{
    PySendResult status = PyIter_Send(self->inner, value, result);

    return status == PYGEN_RETURN ? finish(self, result) : status;
}

/* Give back what arrives for a receiver that ends without it. Keeps the exception that is set. */
static void
give_back(Awaited *self)
{
    PyObject *type, *value, *traceback, *done;

    if (self->arrival == NULL)
        return;
    PyErr_Fetch(&type, &value, &traceback);
    done = PyObject_CallMethodOneArg((PyObject *)self->path, names.give_back, self->arrival);
    if (done == NULL)
        PyErr_WriteUnraisable((PyObject *)self->path);
    Py_XDECREF(done);
    PyErr_Restore(type, value, traceback);
}

/* Enter the state that follows from how a step went. */
static PySendResult
settle(Awaited *self, PySendResult status)
{
    if (status == PYGEN_NEXT) {
        self->state = SUSPENDED;
        return status;
    }
    if (status == PYGEN_ERROR)
        give_back(self);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->arrival);
    self->state = CLOSED;
    return status;
}

static int
fail(PyObject *type, const char *text)
{
    PyErr_SetString(type, text);
    return -1;
}

/* Whether it may run now; -1 with the exception that Python's own coroutines raise. */
static int
check_not_running(Awaited *self)
{
    if (self->state == RUNNING)
        return fail(PyExc_ValueError, "coroutine already executing");
    return 0;
}

static int
check_not_closed(Awaited *self)
{
    if (self->state == CLOSED)
        return fail(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return 0;
}

static PySendResult
awaited_send(Awaited *self, PyObject *value, PyObject **result)
{
    int is_new = self->state == CREATED;

    *result = NULL;
    if (check_not_running(self) < 0 || check_not_closed(self) < 0)
        return PYGEN_ERROR;
    if (is_new && value != Py_None) {
        fail(PyExc_TypeError, "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    self->state = RUNNING;
    if (is_new && (self->is_send ? start_send(self) : start_receive(self)) < 0)
        return settle(self, PYGEN_ERROR);
    if (self->inner == NULL) {
        *result = Py_NewRef(Py_None);
        return settle(self, PYGEN_RETURN);
    }
    return settle(self, step(self, value, result));
}

/* What `send` and `__next__` return: a value, or NULL with StopIteration set at the end. */
static PyObject *
yielded(PySendResult status, PyObject *result)
{
    if (status == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        Py_DECREF(result);
        if (stop != NULL) {
            PyErr_SetObject(PyExc_StopIteration, stop);
            Py_DECREF(stop);
        }
        return NULL;
    }
    return result;
}

static PyObject *
awaited_send_method(Awaited *self, PyObject *value)
{
    PyObject *result;
    PySendResult status = awaited_send(self, value, &result);

    return yielded(status, result);
}

static PyObject *
awaited_next(Awaited *self)
{
    return awaited_send_method(self, Py_None);
}

static PyObject *
awaited_await(Awaited *self)
{
    if (self->state == SUSPENDED) {
        fail(PyExc_RuntimeError, "coroutine is being awaited already");
        return NULL;
    }
    return Py_NewRef((PyObject *)self);
}

/* Take the value of the StopIteration that is set; NULL with another exception set. */
static PyObject *
stop_value(void)
{
    PyObject *type, *error, *traceback, *value;

    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return NULL;
    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    value = PyObject_GetAttrString(error, "value");
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(traceback);
    return value;
}

static PyObject *
throw_here(PyObject *const *args, Py_ssize_t count)
{
    PyObject *type = args[0];

    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, count > 1 && args[1] != Py_None ? args[1] : NULL);
    else
        PyErr_SetString(PyExc_TypeError, "exceptions must derive from BaseException");
    return NULL;
}

/* Throw into what is awaited. */
static PySendResult
throw_inside(Awaited *self, PyObject *const *args, Py_ssize_t count, PyObject **result)
{
    PyObject *arguments[4] = {self->inner, NULL, NULL, NULL};

    for (Py_ssize_t i = 0; i < count; i++)
        arguments[i + 1] = args[i];
    *result = PyObject_VectorcallMethod(names.throw, arguments, (size_t)count + 1, NULL);
    if (*result != NULL)
        return PYGEN_NEXT;
    *result = stop_value();
    return *result == NULL ? PYGEN_ERROR : finish(self, result);
}

static PyObject *
awaited_throw(Awaited *self, PyObject *const *args, Py_ssize_t count)
{
    PyObject *result;
    PySendResult status;

    if (count < 1 || count > 3) {
        fail(PyExc_TypeError, "throw(type[, value[, traceback]])");
        return NULL;
    }
    if (check_not_running(self) < 0 || check_not_closed(self) < 0)
        return NULL;
    if (self->state == CREATED) {
        self->state = CLOSED;
        Py_CLEAR(self->input);
        return throw_here(args, count);
    }
    self->state = RUNNING;
    status = settle(self, throw_inside(self, args, count, &result));
    return yielded(status, result);
}

static PyObject *
awaited_close(Awaited *self, PyObject *unused)
{
    PyObject *done;

    (void)unused;
    if (check_not_running(self) < 0)
        return NULL;
    if (self->state != SUSPENDED) {
        self->state = CLOSED;
        Py_CLEAR(self->input);
        Py_RETURN_NONE;
    }
    self->state = RUNNING;
    done = PyObject_CallMethodNoArgs(self->inner, names.close);
    settle(self, PYGEN_ERROR);
    return done;
}

static int
awaited_traverse(Awaited *self, visitproc visit, void *arg)
{
    Py_VISIT(self->path);
    Py_VISIT(self->input);
    Py_VISIT(self->arrival);
    Py_VISIT(self->inner);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
awaited_clear(Awaited *self)
{
    Py_CLEAR(self->input);
    Py_CLEAR(self->arrival);
    Py_CLEAR(self->inner);
    return 0;
}

/* As Python's own coroutines: warn of one that was never awaited, close one that is suspended. */
static void
awaited_finalize(Awaited *self)
{
    PyObject *type, *value, *traceback, *done;

    PyErr_Fetch(&type, &value, &traceback);
    if (self->state == CREATED &&
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%s' was never awaited",
                         self->is_send ? "send" : "receive") < 0)
        PyErr_WriteUnraisable((PyObject *)self);
    if (self->state == SUSPENDED) {
        done = awaited_close(self, NULL);
        if (done == NULL)
            PyErr_WriteUnraisable((PyObject *)self);
        Py_XDECREF(done);
    }
    PyErr_Restore(type, value, traceback);
}

static void
awaited_dealloc(Awaited *self)
{
    PyTypeObject *type = Py_TYPE(self);

    if (self->state != CLOSED && PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0)
        return;
    PyObject_GC_UnTrack(self);
    if (self->weak_references != NULL)
        PyObject_ClearWeakRefs((PyObject *)self);
    awaited_clear(self);
    Py_CLEAR(self->path);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* `inspect.iscoroutine`, and with it older versions of anyio's task groups, accept nothing but
 * instances of this class. Everything that it promises is here. */
static PyObject *
get_class(Awaited *self, void *unused)
{
    (void)self;
    (void)unused;
    return Py_NewRef((PyObject *)&PyCoro_Type);
}

/* An attribute of the plain twin: its name or its code. */
static PyObject *
get_of_twin(Awaited *self, void *name)
{
    return PyObject_GetAttrString(self->is_send ? plain_send : plain_receive, name);
}

static PyObject *
get_running(Awaited *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->state == RUNNING);
}

static PyObject *
get_suspended(Awaited *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(self->state == SUSPENDED);
}

static PyObject *
get_awaited(Awaited *self, void *unused)
{
    (void)unused;
    return Py_NewRef(self->inner == NULL ? Py_None : self->inner);
}

static PyObject *
get_none(Awaited *self, void *unused)
{
    (void)self;
    (void)unused;
    Py_RETURN_NONE;
}

static PyGetSetDef awaited_properties[] = {
    {"__class__", (getter)get_class, NULL, NULL, NULL},
    {"__name__", (getter)get_of_twin, NULL, NULL, "__name__"},
    {"__qualname__", (getter)get_of_twin, NULL, NULL, "__qualname__"},
    {"cr_code", (getter)get_of_twin, NULL, NULL, "__code__"},
    {"cr_running", (getter)get_running, NULL, NULL, NULL},
    {"cr_suspended", (getter)get_suspended, NULL, NULL, NULL},
    {"cr_await", (getter)get_awaited, NULL, NULL, NULL},
    {"cr_frame", (getter)get_none, NULL, NULL, NULL},
    {"cr_origin", (getter)get_none, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef awaited_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Awaited, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef awaited_methods[] = {
    {"send", (PyCFunction)(void (*)(void))awaited_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))awaited_throw, METH_FASTCALL, NULL},
    {"close", (PyCFunction)(void (*)(void))awaited_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot awaited_slots[] = {
    {Py_tp_doc, "One call of MessagePath.send or MessagePath.receive."},
    {Py_tp_traverse, awaited_traverse},
    {Py_tp_clear, awaited_clear},
    {Py_tp_finalize, awaited_finalize},
    {Py_tp_dealloc, awaited_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, awaited_next},
    {Py_am_await, awaited_await},
    {Py_am_send, awaited_send},
    {Py_tp_members, awaited_members},
    {Py_tp_getset, awaited_properties},
    {Py_tp_methods, awaited_methods},
    {0, NULL},
};

static PyType_Spec awaited_spec = {
    .name = "wsgate.server._fast_path.Awaited",
    .basicsize = sizeof(Awaited),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = awaited_slots,
};

/* -- `send` and `receive` as attributes of the class ------------------------------------------- */

/* A method that makes an Awaited. Whoever inspects it finds its twin, a plain `async def`: asgiref
 * and Starlette ask `inspect.iscoroutinefunction`, others for the signature. Calls that are not the
 * common one are the twin's too: with a keyword, or with wrong arguments. */
typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *twin;
    char is_send;
} Method;

static PyTypeObject *method_type;

static PyObject *
method_call(Method *self, PyObject *const *args, size_t flags, PyObject *keywords)
{
    Py_ssize_t count = PyVectorcall_NARGS(flags);

    if ((keywords != NULL && PyTuple_GET_SIZE(keywords)) || count != (self->is_send ? 2 : 1) ||
        !PyObject_TypeCheck(args[0], path_type))
        return PyObject_Vectorcall(self->twin, args, flags, keywords);
    return awaited((MessagePath *)args[0], self->is_send ? args[1] : NULL);
}

static PyObject *
method_of(PyObject *self, PyObject *instance, PyObject *type)
{
    (void)type;
    return instance == NULL ? Py_NewRef(self) : PyMethod_New(self, instance);
}

static PyObject *
method_getattr(Method *self, PyObject *name)
{
    return PyObject_GetAttr(self->twin, name);
}

static PyObject *
method_repr(Method *self)
{
    return PyObject_Repr(self->twin);
}

static void
method_dealloc(Method *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_CLEAR(self->twin);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Method, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot method_slots[] = {
    {Py_tp_doc, "MessagePath.send or MessagePath.receive."},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, method_of},
    {Py_tp_getattro, method_getattr},
    {Py_tp_repr, method_repr},
    {Py_tp_dealloc, method_dealloc},
    {Py_tp_members, method_members},
    {0, NULL},
};

static PyType_Spec method_spec = {
    .name = "wsgate.server._fast_path.Method",
    .basicsize = sizeof(Method),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL | Py_TPFLAGS_METHOD_DESCRIPTOR |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = method_slots,
};

/* Set a method of MessagePath. */
static int
add_method(const char *name, PyObject *twin)
{
    Method *method = (Method *)method_type->tp_alloc(method_type, 0);
    int failed;

    if (method == NULL)
        return -1;
    method->call = (vectorcallfunc)(void (*)(void))method_call;
    method->twin = Py_NewRef(twin);
    method->is_send = twin == plain_send;
    failed = PyObject_SetAttrString((PyObject *)path_type, name, (PyObject *)method);
    Py_DECREF(method);
    return failed;
}

/* -- one WebSocket: the type ------------------------------------------------------------------- */

/* Every member that is an object, once. */
#define MEMBERS(F) \
    F(session) F(wire) F(gate) F(codec) F(batch) F(create_future) F(max_size) F(receiver) F(queue)

static PyObject *
path_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    MessagePath *self = (MessagePath *)type->tp_alloc(type, 0);

    (void)args;
    (void)kwargs; /* the subclass's __init__ takes them */
    if (self == NULL)
        return NULL;
#define NONE(member) self->member = Py_NewRef(Py_None);
    MEMBERS(NONE)
    return (PyObject *)self;
}

static int
path_traverse(MessagePath *self, visitproc visit, void *arg)
{
#define VISIT(member) Py_VISIT(self->member);
    MEMBERS(VISIT)
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* A member is never NULL: whoever reads it later finds None. */
static int
path_clear(MessagePath *self)
{
#define FORGET(member) Py_XSETREF(self->member, Py_NewRef(Py_None));
    MEMBERS(FORGET)
    return 0;
}

static void
path_dealloc(MessagePath *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
#define DROP(member) Py_CLEAR(self->member);
    MEMBERS(DROP)
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

#define OBJECT(member) {#member, T_OBJECT_EX, offsetof(MessagePath, member), 0, NULL},
#define COUNT(member) {#member, T_PYSSIZET, offsetof(MessagePath, member), 0, NULL},
static PyMemberDef path_members[] = {
    MEMBERS(OBJECT)
    COUNT(received_messages) COUNT(received_bytes) COUNT(sent_messages) COUNT(sent_bytes)
    {"handed_at", T_DOUBLE, offsetof(MessagePath, handed_at), 0, NULL},
    {"is_open", T_BOOL, offsetof(MessagePath, is_open), 0, NULL},
    {"counts_each", T_BOOL, offsetof(MessagePath, counts_each), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef path_methods[] = {
    {"data", (PyCFunction)(void (*)(void))path_data, METH_O, NULL},
    {"expect", (PyCFunction)(void (*)(void))path_expect, METH_NOARGS, NULL},
    {"put", (PyCFunction)(void (*)(void))path_put, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot path_slots[] = {
    {Py_tp_doc, "What fast_path.py's PlainMessagePath is, compiled."},
    {Py_tp_new, path_new},
    {Py_tp_traverse, path_traverse},
    {Py_tp_clear, path_clear},
    {Py_tp_dealloc, path_dealloc},
    {Py_tp_members, path_members},
    {Py_tp_methods, path_methods},
    {0, NULL},
};

static PyType_Spec path_spec = {
    .name = "wsgate.server._fast_path.MessagePath",
    .basicsize = sizeof(MessagePath),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = path_slots,
};

/* -- the module -------------------------------------------------------------------------------- */

static int
intern(PyObject **place, const char *text)
{
    if (*place == NULL)
        *place = PyUnicode_InternFromString(text);
    return *place == NULL ? -1 : 0;
}

static int
intern_names(void)
{
#define INTERN(name) \
    if (intern(&names.name, #name) < 0) \
        return -1;
    NAMES(INTERN)
    return intern(&names.websocket_send, "websocket.send") < 0 ||
                   intern(&names.websocket_receive, "websocket.receive") < 0
               ? -1
               : 0;
}

/* Create a type, or take that of an earlier import; with a name, add it to the module. */
static int
create_type(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject **place)
{
    if (*place == NULL) /* kept for the life of the process */
        *place = (PyTypeObject *)PyType_FromModuleAndSpec(module, spec, NULL);
    if (*place == NULL)
        return -1;
    return name == NULL ? 0 : PyModule_AddObjectRef(module, name, (PyObject *)*place);
}

/* Find the plain twins of `send` and `receive`. */
static int
find_twins(void)
{
    PyObject *module = PyImport_ImportModule("wsgate.server.fast_path"), *path = NULL;

    if (module != NULL)
        path = PyObject_GetAttrString(module, "PlainMessagePath");
    if (path != NULL) {
        Py_XSETREF(plain_send, PyObject_GetAttrString(path, "send"));
        Py_XSETREF(plain_receive, PyObject_GetAttrString(path, "receive"));
    }
    Py_XDECREF(module);
    Py_XDECREF(path);
    return plain_send == NULL || plain_receive == NULL ? -1 : 0;
}

static int
execute(PyObject *module)
{
    return intern_names() < 0 || find_twins() < 0 ||
                   create_type(module, "MessageMeter", &meter_spec, &message_meter_type) < 0 ||
                   create_type(module, "Stream", &stream_spec, &stream_type) < 0 ||
                   create_type(module, "WriteBatch", &batch_spec, &write_batch_type) < 0 ||
                   create_type(module, NULL, &awaited_spec, &awaited_type) < 0 ||
                   create_type(module, NULL, &method_spec, &method_type) < 0 ||
                   create_type(module, "MessagePath", &path_spec, &path_type) < 0 ||
                   add_method("send", plain_send) < 0 || add_method("receive", plain_receive) < 0
               ? -1
               : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
    {0, NULL},
};

static PyMethodDef functions[] = {
    {"deliver", (PyCFunction)(void (*)(void))deliver, METH_FASTCALL, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsgate.server._fast_path",
    .m_doc = "What fast_path.py does, compiled.",
    .m_size = 0,
    .m_methods = functions,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__fast_path(void)
{
    return PyModuleDef_Init(&definition);
}
