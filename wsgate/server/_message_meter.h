/* What is counted for each WebSocket message while metrics are on. message_meter.py has the plain twin,
 * with the documentation; the buckets are those of metrics/families.py, which a test compares.
 *
 * Part of _fast_path.c, which counts without a call of Python.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>
#include <time.h>

enum { SMALLEST_BITS = 4, SIZE_BUCKETS = 12, EVENT_BUCKETS = 15 };

static const double event_bounds[EVENT_BUCKETS - 1] = {
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0};

typedef struct {
    unsigned long long counts[SIZE_BUCKETS];
    unsigned long long sum;
} Sizes;

typedef struct {
    PyObject_HEAD
    PyObject *clock; /* None: the system's */
    Sizes received;
    Sizes sent;
    unsigned long long event_counts[EVENT_BUCKETS];
    double event_sum;
} MessageMeter;

static PyTypeObject *message_meter_type; /* of this module, which is loaded once */

/* The bytes of a text in UTF-8; a lone surrogate has 3. */
static Py_ssize_t
utf8_size(PyObject *text)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(text), size = length;
    int kind = PyUnicode_KIND(text);

    if (PyUnicode_IS_ASCII(text))
        return length;
    if (kind == PyUnicode_1BYTE_KIND)
        for (Py_ssize_t i = 0; i < length; i++)
            size += PyUnicode_1BYTE_DATA(text)[i] > 0x7f;
    else if (kind == PyUnicode_2BYTE_KIND)
        for (Py_ssize_t i = 0; i < length; i++)
            size += (PyUnicode_2BYTE_DATA(text)[i] > 0x7f) + (PyUnicode_2BYTE_DATA(text)[i] > 0x7ff);
    else
        for (Py_ssize_t i = 0; i < length; i++)
            size += (PyUnicode_4BYTE_DATA(text)[i] > 0x7f) + (PyUnicode_4BYTE_DATA(text)[i] > 0x7ff) +
                    (PyUnicode_4BYTE_DATA(text)[i] > 0xffff);
    return size;
}

/* The bytes of a message, which is a str or a bytes. */
static Py_ssize_t
message_size(PyObject *message)
{
    return PyBytes_Check(message) ? PyBytes_GET_SIZE(message) : utf8_size(message);
}

/* The bucket of a size: each has four times the bound of the one before it. */
static int
size_bucket(Py_ssize_t size)
{
    int bucket = 0;

    while (bucket < SIZE_BUCKETS - 1 && size > (Py_ssize_t)1 << (SMALLEST_BITS + 2 * bucket))
        bucket++;
    return bucket;
}

static void
record_size(Sizes *sizes, PyObject *message, unsigned long long times)
{
    Py_ssize_t size = message_size(message);

    sizes->counts[size_bucket(size)] += times;
    sizes->sum += (unsigned long long)size * times;
}

static void
record_event(MessageMeter *self, double seconds)
{
    int bucket = 0;

    while (bucket < EVENT_BUCKETS - 1 && seconds > event_bounds[bucket])
        bucket++;
    self->event_counts[bucket]++;
    self->event_sum += seconds;
}

/* Seconds of the clock; a negative number with an exception set. */
static double
meter_now(MessageMeter *self)
{
    struct timespec now;
    PyObject *value;
    double seconds;

    if (self->clock == Py_None) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    }
    value = PyObject_CallNoArgs(self->clock);
    seconds = value == NULL ? -1.0 : PyFloat_AsDouble(value);
    Py_XDECREF(value);
    return seconds;
}

static PyObject *
meter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"clock", NULL};
    PyObject *clock = Py_None;
    MessageMeter *self;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:MessageMeter", keywords, &clock))
        return NULL;
    self = (MessageMeter *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->clock = Py_NewRef(clock);
    return (PyObject *)self;
}

static int
meter_traverse(MessageMeter *self, visitproc visit, void *arg)
{
    Py_VISIT(self->clock);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int
meter_clear(MessageMeter *self)
{
    Py_XSETREF(self->clock, Py_NewRef(Py_None)); /* never NULL */
    return 0;
}

static void
meter_dealloc(MessageMeter *self)
{
    PyTypeObject *type = Py_TYPE(self);

    PyObject_GC_UnTrack(self);
    Py_CLEAR(self->clock);
    type->tp_free((PyObject *)self);
    Py_DECREF(type);
}

static int
check_message(PyObject *message)
{
    if (PyBytes_Check(message) || PyUnicode_Check(message))
        return 0;
    PyErr_SetString(PyExc_TypeError, "a message is str or bytes");
    return -1;
}

static PyObject *
meter_record_received(MessageMeter *self, PyObject *message)
{
    if (check_message(message) < 0)
        return NULL;
    record_size(&self->received, message, 1);
    Py_RETURN_NONE;
}

static PyObject *
meter_record_sent(MessageMeter *self, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t times = count == 2 ? PyLong_AsSsize_t(args[1]) : 1;

    if (times < 0 && PyErr_Occurred())
        return NULL;
    if (count < 1 || count > 2) {
        PyErr_SetString(PyExc_TypeError, "record_sent(message, times=1)");
        return NULL;
    }
    if (check_message(args[0]) < 0)
        return NULL;
    record_size(&self->sent, args[0], (unsigned long long)times);
    Py_RETURN_NONE;
}

static PyObject *
meter_record_event(MessageMeter *self, PyObject *seconds)
{
    double value = PyFloat_AsDouble(seconds);

    if (value == -1.0 && PyErr_Occurred())
        return NULL;
    record_event(self, value);
    Py_RETURN_NONE;
}

/* A histogram as a tuple of its counts and their sum; takes the reference to the sum. */
static PyObject *
snapshot(const unsigned long long *counts, Py_ssize_t size, PyObject *sum)
{
    PyObject *numbers = PyTuple_New(size), *both;

    for (Py_ssize_t i = 0; numbers != NULL && i < size; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(counts[i]);

        if (number == NULL)
            Py_CLEAR(numbers);
        else
            PyTuple_SET_ITEM(numbers, i, number);
    }
    both = numbers == NULL || sum == NULL ? NULL : PyTuple_Pack(2, numbers, sum);
    Py_XDECREF(numbers);
    Py_XDECREF(sum);
    return both;
}

static PyObject *
sizes_of(Sizes *sizes)
{
    return snapshot(sizes->counts, SIZE_BUCKETS, PyLong_FromUnsignedLongLong(sizes->sum));
}

static PyObject *
meter_received(MessageMeter *self, PyObject *unused)
{
    (void)unused;
    return sizes_of(&self->received);
}

static PyObject *
meter_sent(MessageMeter *self, PyObject *unused)
{
    (void)unused;
    return sizes_of(&self->sent);
}

static PyObject *
meter_events(MessageMeter *self, PyObject *unused)
{
    (void)unused;
    return snapshot(self->event_counts, EVENT_BUCKETS, PyFloat_FromDouble(self->event_sum));
}

static PyMemberDef meter_members[] = {
    {"clock", T_OBJECT_EX, offsetof(MessageMeter, clock), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyMethodDef meter_methods[] = {
    {"record_received", (PyCFunction)(void (*)(void))meter_record_received, METH_O, NULL},
    {"record_sent", (PyCFunction)(void (*)(void))meter_record_sent, METH_FASTCALL, NULL},
    {"record_event", (PyCFunction)(void (*)(void))meter_record_event, METH_O, NULL},
    {"received", (PyCFunction)(void (*)(void))meter_received, METH_NOARGS, NULL},
    {"sent", (PyCFunction)(void (*)(void))meter_sent, METH_NOARGS, NULL},
    {"events", (PyCFunction)(void (*)(void))meter_events, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot meter_slots[] = {
    {Py_tp_doc, "What message_meter.py's PlainMessageMeter is, compiled."},
    {Py_tp_new, meter_new},
    {Py_tp_traverse, meter_traverse},
    {Py_tp_clear, meter_clear},
    {Py_tp_dealloc, meter_dealloc},
    {Py_tp_members, meter_members},
    {Py_tp_methods, meter_methods},
    {0, NULL},
};

static PyType_Spec meter_spec = {
    .name = "wsgate.server._fast_path.MessageMeter",
    .basicsize = sizeof(MessageMeter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = meter_slots,
};
