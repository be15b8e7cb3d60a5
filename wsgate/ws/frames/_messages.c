/* Whole messages in single frames, read and written: the compiled twin of messages.py, which has
 * the documentation.
 *
 * This code processes untrusted bytes from the peer. So every pointer stays within `data`, after a
 * comparison with the number of bytes left; lengths are unsigned and compared by subtraction, which
 * cannot overflow; and no state is kept between calls.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

enum { TEXT = 0x81, BINARY = 0x82, PONG = 0x8a, RSV1 = 0x40, MASKED = 0x80, MASK_SIZE = 4 };

/* XOR n octets with the mask, eight at a time; the compiler vectorises the loop. */
static void
xor_mask(unsigned char *out, const unsigned char *in, size_t n, const unsigned char *mask)
{
    uint32_t half;
    uint64_t both;
    size_t i = 0;

    memcpy(&half, mask, MASK_SIZE);
    both = (uint64_t)half << 32 | half;
    for (; n - i >= 8; i += 8) {
        uint64_t octets;
        memcpy(&octets, in + i, 8);
        octets ^= both;
        memcpy(out + i, &octets, 8);
    }
    for (; i < n; i++)
        out[i] = in[i] ^ mask[i & 3];
}

static uint64_t
big_endian(const unsigned char *in, size_t octets)
{
    uint64_t value = 0;
    for (size_t i = 0; i < octets; i++)
        value = value << 8 | in[i];
    return value;
}

/* Return the size of the header at `in` and store the payload's length in *length. Return 0 unless
 * the header is complete, of a final text or binary frame with these reserved bits, masked, and its
 * length minimal.
 *
 * This is the twin of `read_header` in header.py, with the checks that all callers here need. The
 * tests hold both to the same answers. */
static size_t
read_header(const unsigned char *in, size_t left, int reserved, uint64_t *length)
{
    size_t octets = 0;

    if (left < 2 + MASK_SIZE || (in[0] != (TEXT | reserved) && in[0] != (BINARY | reserved)) ||
        !(in[1] & MASKED))
        return 0;
    *length = in[1] & 0x7f;
    if (*length >= 126) {
        octets = *length == 126 ? 2 : 8;
        if (left < 2 + octets + MASK_SIZE)
            return 0;
        *length = big_endian(in + 2, octets);
        /* RFC 6455 section 5.2: "the minimal number of bytes MUST be used". */
        if (*length < (octets == 2 ? 126u : 65536u))
            return 0;
    }
    return 2 + octets + MASK_SIZE;
}

static PyObject *
read_binary(const unsigned char *in, size_t n, const unsigned char *mask)
{
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
    if (payload != NULL)
        xor_mask((unsigned char *)PyBytes_AS_STRING(payload), in, n, mask);
    return payload;
}

/* Text of at most this many octets is unmasked on the stack, not in allocated memory. */
enum { SMALL = 1024 };

static PyObject *
read_text(const unsigned char *in, size_t n, const unsigned char *mask)
{
    unsigned char small[SMALL];
    unsigned char *octets = n <= SMALL ? small : PyMem_Malloc(n);
    PyObject *text;

    if (octets == NULL)
        return PyErr_NoMemory();
    xor_mask(octets, in, n, mask);
    text = PyUnicode_DecodeUTF8((const char *)octets, (Py_ssize_t)n, NULL);
    if (octets != small)
        PyMem_Free(octets);
    return text;
}

/* Return the message at `in` and store its frame's size in *size. Return NULL without an exception
 * if there is no message that can be read here. */
static PyObject *
read_frame(const unsigned char *in, size_t left, Py_ssize_t max_size, size_t *size)
{
    uint64_t length;
    size_t header = read_header(in, left, 0, &length);
    PyObject *message;

    if (header == 0 || length > (uint64_t)max_size || left - header < length)
        return NULL;
    *size = header + (size_t)length;
    message = (in[0] == TEXT ? read_text : read_binary)(in + header, (size_t)length,
                                                        in + header - MASK_SIZE);
    if (message == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        PyErr_Clear();
    return message;
}

/* Append messages to the list; return where reading stopped, or -1 with an exception set. */
static Py_ssize_t
collect(PyObject *messages, const unsigned char *data, Py_ssize_t size, Py_ssize_t start,
        Py_ssize_t limit, Py_ssize_t max_size)
{
    while (PyList_GET_SIZE(messages) < limit) {
        size_t frame;
        PyObject *message = read_frame(data + start, (size_t)(size - start), max_size, &frame);
        int failed;

        if (message == NULL && PyErr_Occurred())
            return -1;
        if (message == NULL)
            break;
        failed = PyList_Append(messages, message);
        Py_DECREF(message);
        if (failed)
            return -1;
        start += (Py_ssize_t)frame;
    }
    return start;
}

static PyObject *
read_messages(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t start, limit, max_size;
    PyObject *messages, *stop, *result = NULL;

    (void)module;
    if (count != 4 || !PyBytes_Check(args[0]) || !PyLong_Check(args[1]) ||
        !PyLong_Check(args[2]) || !PyLong_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError,
                        "read_messages(data: bytes, start: int, limit: int, max_size: int)");
        return NULL;
    }
    /* A setting may be any number: one that does not fit is clipped to the largest that does. */
    start = PyNumber_AsSsize_t(args[1], NULL);
    limit = PyNumber_AsSsize_t(args[2], NULL);
    max_size = PyNumber_AsSsize_t(args[3], NULL);
    if (start < 0 || start > PyBytes_GET_SIZE(args[0]) || max_size < 0) {
        PyErr_SetString(PyExc_ValueError, "start or max_size is out of range");
        return NULL;
    }
    messages = PyList_New(0);
    if (messages == NULL)
        return NULL;
    start = collect(messages, (const unsigned char *)PyBytes_AS_STRING(args[0]),
                    PyBytes_GET_SIZE(args[0]), start, limit, max_size);
    if (start >= 0 && (stop = PyLong_FromSsize_t(start)) != NULL) {
        result = PyTuple_Pack(2, messages, stop);
        Py_DECREF(stop);
    }
    Py_DECREF(messages);
    return result;
}

/* Return `max_size` of the arguments (data: bytes, max_size: int); -1 with an exception set. */
static Py_ssize_t
parse_max_size(PyObject *const *args, Py_ssize_t count, const char *usage)
{
    Py_ssize_t max_size;

    if (count != 2 || !PyBytes_Check(args[0]) || !PyLong_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, usage);
        return -1;
    }
    max_size = PyNumber_AsSsize_t(args[1], NULL);  /* clipped, as above */
    if (max_size < 0) {
        PyErr_SetString(PyExc_ValueError, "max_size is out of range");
        return -1;
    }
    return max_size;
}

static PyObject *
read_message(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    Py_ssize_t max_size = parse_max_size(args, count, "read_message(data: bytes, max_size: int)");
    size_t frame;
    PyObject *message;

    (void)module;
    if (max_size < 0)
        return NULL;
    message = read_frame((const unsigned char *)PyBytes_AS_STRING(args[0]),
                         (size_t)PyBytes_GET_SIZE(args[0]), max_size, &frame);
    if (message != NULL && frame != (size_t)PyBytes_GET_SIZE(args[0]))
        Py_CLEAR(message);
    if (message == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return message;
}

static PyObject *
is_pong(PyObject *module, PyObject *data)
{
    const unsigned char *in;
    size_t size;

    (void)module;
    if (!PyBytes_Check(data)) {
        PyErr_SetString(PyExc_TypeError, "is_pong(data: bytes)");
        return NULL;
    }
    in = (const unsigned char *)PyBytes_AS_STRING(data);
    size = (size_t)PyBytes_GET_SIZE(data);
    /* RFC 6455 section 5.5: control frames "MUST have a payload length of 125 bytes or less". */
    return PyBool_FromLong(size >= 2 + MASK_SIZE && in[0] == PONG && in[1] <= (MASKED | 125) &&
                           in[1] >= MASKED && size == 2u + MASK_SIZE + (in[1] & 0x7f));
}

static PyObject *
read_compressed(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const char *usage = "read_compressed(data: bytes, max_size: int)";
    Py_ssize_t max_size = parse_max_size(args, count, usage);
    const unsigned char *in;
    size_t size, header;
    uint64_t length;

    (void)module;
    if (max_size < 0)
        return NULL;
    in = (const unsigned char *)PyBytes_AS_STRING(args[0]);
    size = (size_t)PyBytes_GET_SIZE(args[0]);
    header = read_header(in, size, RSV1, &length);
    if (header == 0 || length > (uint64_t)max_size || size - header != length)
        Py_RETURN_NONE;
    return read_binary(in + header, (size_t)length, in + header - MASK_SIZE);
}

static PyObject *
unmask(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    (void)module;
    if (count != 2 || !PyBytes_Check(args[0]) || !PyBytes_Check(args[1]) ||
        PyBytes_GET_SIZE(args[1]) != MASK_SIZE) {
        PyErr_SetString(PyExc_TypeError, "unmask(data: bytes, mask: bytes), a mask of 4 bytes");
        return NULL;
    }
    return read_binary((const unsigned char *)PyBytes_AS_STRING(args[0]),
                       (size_t)PyBytes_GET_SIZE(args[0]),
                       (const unsigned char *)PyBytes_AS_STRING(args[1]));
}

/* Write the header of a frame from the server; return its size, at most ten octets. */
static size_t
write_header(unsigned char *out, int first, uint64_t length)
{
    size_t octets = length < 126 ? 0 : length < 65536 ? 2 : 8;

    out[0] = (unsigned char)first;
    out[1] = octets == 0 ? (unsigned char)length : octets == 2 ? 126 : 127;
    for (size_t i = 0; i < octets; i++)
        out[2 + i] = (unsigned char)(length >> (8 * (octets - 1 - i)));
    return 2 + octets;
}

static PyObject *
make_frame(int first, const char *payload, Py_ssize_t size)
{
    unsigned char header[10];
    size_t n = write_header(header, first, (uint64_t)size);
    PyObject *frame;

    if (size > PY_SSIZE_T_MAX - (Py_ssize_t)n)
        return PyErr_NoMemory();
    frame = PyBytes_FromStringAndSize(NULL, size + (Py_ssize_t)n);
    if (frame != NULL) {
        memcpy(PyBytes_AS_STRING(frame), header, n);
        memcpy(PyBytes_AS_STRING(frame) + n, payload, (size_t)size);
    }
    return frame;
}

static PyObject *
data_frame(PyObject *module, PyObject *payload)
{
    PyObject *octets, *frame;

    (void)module;
    if (PyBytes_Check(payload))
        return make_frame(BINARY, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload));
    if (!PyUnicode_Check(payload)) {
        PyErr_SetString(PyExc_TypeError, "data_frame(payload: str | bytes)");
        return NULL;
    }
    if (PyUnicode_IS_COMPACT_ASCII(payload))
        return make_frame(TEXT, (const char *)PyUnicode_DATA(payload),
                          PyUnicode_GET_LENGTH(payload));
    octets = PyUnicode_AsUTF8String(payload);
    if (octets == NULL)
        return NULL;
    frame = make_frame(TEXT, PyBytes_AS_STRING(octets), PyBytes_GET_SIZE(octets));
    Py_DECREF(octets);
    return frame;
}

static PyMethodDef methods[] = {
    {"read_messages", (PyCFunction)(void (*)(void))read_messages, METH_FASTCALL, NULL},
    {"read_message", (PyCFunction)(void (*)(void))read_message, METH_FASTCALL, NULL},
    {"read_compressed", (PyCFunction)(void (*)(void))read_compressed, METH_FASTCALL, NULL},
    {"is_pong", is_pong, METH_O, NULL},
    {"unmask", (PyCFunction)(void (*)(void))unmask, METH_FASTCALL, NULL},
    {"data_frame", data_frame, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot slots[] = {
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "wsgate.ws.frames._messages",
    .m_doc = "The functions of messages.py, compiled.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC
PyInit__messages(void)
{
    return PyModuleDef_Init(&definition);
}
