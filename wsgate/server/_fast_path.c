/* The usual way of one whole message, in and out. fast_path.py is the same in plain Python, and tells it.
 *
 * Nothing here looks into a stranger's bytes: the codec's functions do, which are called by name.
 * Whatever is not usual is left to the Python class that stands on this one.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    PyObject *session;
    PyObject *gate;
    PyObject *receiver;
    PyObject *codec;
    PyObject *most;
    PyObject *transport;
    PyObject *outbox;
    PyObject *waiting;
    PyObject *create_future;
    PyObject *queue;
    Py_ssize_t messages_in;
    Py_ssize_t octets_in;
    Py_ssize_t messages_out;
    Py_ssize_t octets_out;
    char is_counted;
} Lane;

/* Names that are looked up and compared for each message: made once, and kept. */
static struct {
    PyObject *is_idle, *can_send, *is_shut, *done, *set_result, *feed_other, *broken;
    PyObject *data, *read_message, *message, *put, *schedule, *is_closing, *get_write_buffer_size;
    PyObject *type, *send, *text, *bytes;
} names;

/* Whether an attribute of an object is what it should be; -1 with an exception set. */
static int
holds(PyObject *object, PyObject *name, PyObject *wanted)
{
    PyObject *value = PyObject_GetAttr(object, name);
    if (value == NULL)
        return -1;
    Py_DECREF(value);
    return value == wanted;
}

/* -- in ---------------------------------------------------------------------------------------- */

/* The message that `data` is, where somebody waits for one; else NULL, without an exception. */
static PyObject *
read_awaited(Lane *self, PyObject *data)
{
    PyObject *arguments[3] = {self->codec, data, self->most};
    PyObject *message, *done;

    if (self->is_counted || self->receiver == Py_None ||
        holds(self->session, names.is_idle, Py_True) != 1)
        return NULL;
    done = PyObject_CallMethodNoArgs(self->receiver, names.done);
    Py_XDECREF(done);
    if (done != Py_False)
        return NULL;
    message = PyObject_VectorcallMethod(names.read_message, arguments, 3, NULL);
    if (message == Py_None)
        Py_CLEAR(message);
    return message;
}

static PyObject *
take_data(Lane *self, PyObject *data)
{
    PyObject *receiver, *set, *message;

    if (!PyBytes_CheckExact(data))
        return PyObject_CallMethodOneArg((PyObject *)self, names.feed_other, data);
    message = read_awaited(self, data);
    if (message == NULL) {
        if (PyErr_Occurred())
            return NULL;
        return PyObject_CallMethodOneArg((PyObject *)self, names.feed_other, data);
    }
    self->octets_in += PyBytes_GET_SIZE(data);
    self->messages_in++;
    receiver = self->receiver;
    self->receiver = Py_NewRef(Py_None);
    set = PyObject_CallMethodOneArg(receiver, names.set_result, message);
    Py_DECREF(receiver);
    Py_DECREF(message);
    return set;
}

static PyObject *
expect(Lane *self, PyObject *unused)
{
    PyObject *future;

    (void)unused;
    if (self->receiver != Py_None || self->queue != Py_None)
        Py_RETURN_NONE;
    switch (holds(self->session, names.is_idle, Py_True)) {
    case -1:
        return NULL;
    case 0:
        Py_RETURN_NONE;
    }
    future = PyObject_CallNoArgs(self->create_future);
    if (future != NULL)
        Py_SETREF(self->receiver, Py_NewRef(future));
    return future;
}

/* -- out --------------------------------------------------------------------------------------- */

/* What a usual `websocket.send` carries, borrowed; NULL where it is another message. */
static PyObject *
payload_of(PyObject *message)
{
    PyObject *type, *text, *bytes;

    if (!PyDict_CheckExact(message))
        return NULL;
    type = PyDict_GetItemWithError(message, names.type);
    if (type == NULL || !PyUnicode_CheckExact(type) ||
        (type != names.send && PyUnicode_Compare(type, names.send) != 0))
        return NULL;
    text = PyDict_GetItemWithError(message, names.text);
    bytes = PyDict_GetItemWithError(message, names.bytes);
    if (text == NULL || text == Py_None)
        return bytes != NULL && PyBytes_CheckExact(bytes) ? bytes : NULL;
    if (bytes == NULL || bytes == Py_None)
        return PyUnicode_CheckExact(text) ? text : NULL;
    return NULL;
}

/* The frame of a message that can leave now; else NULL, without an exception but the codec's. */
static PyObject *
framed(Lane *self, PyObject *message)
{
    PyObject *payload, *frame;

    if (holds(self->session, names.can_send, Py_True) != 1 ||
        holds(self->gate, names.is_shut, Py_False) != 1)
        return NULL;
    payload = payload_of(message);
    if (payload == NULL)
        return NULL;
    Py_INCREF(payload);
    frame = PyObject_CallMethodOneArg(self->codec, names.message, payload);
    Py_DECREF(payload);
    if (frame == NULL && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
        PyErr_Clear(); /* the slow way tells the app */
    if (frame != NULL && !PyBytes_CheckExact(frame)) {
        PyErr_SetString(PyExc_TypeError, "a frame is bytes");
        Py_CLEAR(frame);
    }
    return frame;
}

/* A connection's bytes that leave at once: outbox.py has the same. */
enum { FULL = 65536 };

/* Whether what a method returns is false; -1 with an exception set. */
static int
is_false(PyObject *object, PyObject *method)
{
    PyObject *value = PyObject_CallMethodNoArgs(object, method);
    int truth;

    if (value == NULL)
        return -1;
    truth = PyObject_IsTrue(value);
    Py_DECREF(value);
    return truth < 0 ? -1 : !truth;
}

/* Let a frame wait for the turn's end, where nothing else does for its connection: 1 if it waits, 0
 * if it does not, -1 with an exception set. */
static int
let_wait(Lane *self, PyObject *frame)
{
    Py_ssize_t before;
    PyObject *scheduled;
    int is_idle;

    if (PyBytes_GET_SIZE(frame) >= FULL || !PyDict_CheckExact(self->waiting))
        return 0;
    is_idle = is_false(self->transport, names.is_closing);
    if (is_idle == 1)
        is_idle = is_false(self->transport, names.get_write_buffer_size);
    if (is_idle != 1)
        return is_idle;
    before = PyDict_GET_SIZE(self->waiting);
    if (PyDict_SetDefault(self->waiting, self->transport, frame) == NULL)
        return -1;
    if (PyDict_GET_SIZE(self->waiting) == before)
        return 0;
    if (before > 0)
        return 1;
    scheduled = PyObject_CallMethodNoArgs(self->outbox, names.schedule);
    Py_XDECREF(scheduled);
    return scheduled == NULL ? -1 : 1;
}

/* Write a frame; 0, or -1 with an exception set. */
static int
write_frame(Lane *self, PyObject *frame)
{
    PyObject *arguments[3] = {self->outbox, self->transport, frame};
    PyObject *done;
    int waits = let_wait(self, frame);

    if (waits != 0)
        return waits < 0 ? -1 : 0;
    done = PyObject_VectorcallMethod(names.put, arguments, 3, NULL);
    if (done == Py_False) {
        Py_DECREF(done);
        done = PyObject_CallMethodNoArgs((PyObject *)self, names.broken);
    }
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static PyObject *
put(Lane *self, PyObject *message)
{
    PyObject *frame = framed(self, message);
    Py_ssize_t size;

    if (frame == NULL) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_FALSE;
    }
    size = PyBytes_GET_SIZE(frame);
    self->messages_out++;
    self->octets_out += size;
    if (write_frame(self, frame) < 0) {
        Py_DECREF(frame);
        return NULL;
    }
    Py_DECREF(frame);
    Py_RETURN_TRUE;
}

/* -- the type ---------------------------------------------------------------------------------- */

/* Every member that is an object, once. */
#define MEMBERS(F) \
    F(session) F(gate) F(receiver) F(codec) F(most) F(transport) F(outbox) F(waiting) \
    F(create_future) F(queue)

static PyObject *
lane_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Lane *self = (Lane *)type->tp_alloc(type, 0);

    (void)args;
    (void)kwargs; /* the subclass's __init__ takes them */
    if (self == NULL)
        return NULL;
#define NONE(member) self->member = Py_NewRef(Py_None);
    MEMBERS(NONE)
    return (PyObject *)self;
}

static int
lane_traverse(Lane *self, visitproc visit, void *arg)
{
#define VISIT(member) Py_VISIT(self->member);
    MEMBERS(VISIT)
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* A member is never NULL: whoever reads it later finds None. */
static int
lane_clear(Lane *self)
{
#define FORGET(member) Py_SETREF(self->member, Py_NewRef(Py_None));
    MEMBERS(FORGET)
    return 0;
}

static void
lane_dealloc(Lane *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
#define DROP(member) Py_CLEAR(self->member);
    MEMBERS(DROP)
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

#define OBJECT(member) {#member, T_OBJECT_EX, offsetof(Lane, member), 0, NULL},
#define COUNT(member) {#member, T_PYSSIZET, offsetof(Lane, member), 0, NULL},
static PyMemberDef members[] = {
    MEMBERS(OBJECT)
    COUNT(messages_in) COUNT(octets_in) COUNT(messages_out) COUNT(octets_out)
    {"is_counted", T_BOOL, offsetof(Lane, is_counted), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef methods[] = {
    {"data", (PyCFunction)(void (*)(void))take_data, METH_O, NULL},
    {"expect", (PyCFunction)(void (*)(void))expect, METH_NOARGS, NULL},
    {"put", (PyCFunction)(void (*)(void))put, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lane_slots[] = {
    {Py_tp_doc, "What fast_path.py's PlainLane is, compiled."},
    {Py_tp_new, lane_new},
    {Py_tp_traverse, lane_traverse},
    {Py_tp_clear, lane_clear},
    {Py_tp_dealloc, lane_dealloc},
    {Py_tp_members, members},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec lane_spec = {
    .name = "wsgate.server._fast_path.Lane",
    .basicsize = sizeof(Lane),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = lane_slots,
};

/* -- relay ------------------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    PyObject *target;
} Relay;

static PyObject *
data_received(Relay *self, PyObject *data)
{
    PyObject *done, *target = self->target; /* it may hand the connection on */

    if (target == NULL) {
        PyErr_SetString(PyExc_AttributeError, "target");
        return NULL;
    }
    Py_INCREF(target);
    done = PyObject_CallMethodOneArg(target, names.data, data);
    Py_DECREF(target);
    return done;
}

static int
relay_traverse(Relay *self, visitproc visit, void *arg)
{
    Py_VISIT(self->target);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
relay_clear(Relay *self)
{
    Py_CLEAR(self->target);
    return 0;
}

static void
relay_dealloc(Relay *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->target);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static PyMemberDef relay_members[] = {
    {"target", T_OBJECT_EX, offsetof(Relay, target), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef relay_methods[] = {
    {"data_received", (PyCFunction)(void (*)(void))data_received, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot relay_slots[] = {
    {Py_tp_doc, "What fast_path.py's PlainRelay is, compiled."},
    {Py_tp_traverse, relay_traverse},
    {Py_tp_clear, relay_clear},
    {Py_tp_dealloc, relay_dealloc},
    {Py_tp_members, relay_members},
    {Py_tp_methods, relay_methods},
    {0, NULL},
};

static PyType_Spec relay_spec = {
    .name = "wsgate.server._fast_path.Relay",
    .basicsize = sizeof(Relay),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = relay_slots,
};

/* -- the module -------------------------------------------------------------------------------- */

static int
name(PyObject **place, const char *text)
{
    if (*place == NULL)
        *place = PyUnicode_InternFromString(text);
    return *place == NULL ? -1 : 0;
}

static int
add_type(PyObject *module, const char *called, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    int failed;

    if (type == NULL)
        return -1;
    failed = PyModule_AddObjectRef(module, called, type);
    Py_DECREF(type);
    return failed;
}

static int
execute(PyObject *module)
{
    int failed = name(&names.is_idle, "is_idle") || name(&names.can_send, "can_send") ||
                 name(&names.is_shut, "is_shut") || name(&names.done, "done") ||
                 name(&names.set_result, "set_result") || name(&names.feed_other, "feed_other") ||
                 name(&names.broken, "broken") || name(&names.type, "type") ||
                 name(&names.read_message, "read_message") || name(&names.message, "message") ||
                 name(&names.data, "data") || name(&names.put, "put") || name(&names.schedule, "schedule") ||
                 name(&names.is_closing, "is_closing") ||
                 name(&names.get_write_buffer_size, "get_write_buffer_size") ||
                 name(&names.send, "websocket.send") || name(&names.text, "text") ||
                 name(&names.bytes, "bytes");

    if (failed)
        return -1;
    return add_type(module, "Lane", &lane_spec) || add_type(module, "Relay", &relay_spec) ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, execute},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsgate.server._fast_path",
    .m_doc = "What fast_path.py does, compiled.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__fast_path(void)
{
    return PyModuleDef_Init(&definition);
}
