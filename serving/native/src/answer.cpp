#include "answer.hpp"

#include <algorithm>
#include <cstring>

namespace {

constexpr size_t OUTPUT_BYTES_MAX = 256 * 1024;
constexpr size_t OUTPUT_BYTES_FIRST = 8 * 1024;
constexpr size_t COPIED_BYTES_MAX = 16 * 1024;  // a smaller buffer is copied: cheaper than to hold on to it
constexpr size_t FRAME_HEAD_BYTES = 9;
constexpr size_t WRITTEN_CHUNKS_MAX = 64;  // of a stream that always has more to write
constexpr size_t DATA_BYTES_MAX = 64 * 1024;

nghttp2_nv field(const char *name, size_t name_size, const char *value, size_t value_size) {
    return {reinterpret_cast<uint8_t *>(const_cast<char *>(name)), reinterpret_cast<uint8_t *>(const_cast<char *>(value)), name_size,
            value_size, NGHTTP2_NV_FLAG_NONE};
}

nghttp2_nv field(const std::string &name, const std::string &value) {
    return field(name.data(), name.size(), value.data(), value.size());
}

template <size_t N, size_t M>
nghttp2_nv constant(const char (&name)[N], const char (&value)[M]) {
    nghttp2_nv made = field(name, N - 1, value, M - 1);
    made.flags = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE;
    return made;
}

bool reserve_output(Session *session, size_t more) {
    if (session->output == nullptr) return false;
    size_t capacity = static_cast<size_t>(PyBytes_GET_SIZE(session->output)), wanted = session->output_size + more;
    if (wanted <= capacity) return true;
    return _PyBytes_Resize(&session->output, static_cast<Py_ssize_t>(std::max(wanted, capacity * 4))) == 0;
}

void put(Session *session, const uint8_t *data, size_t length) {
    std::memcpy(PyBytes_AS_STRING(session->output) + session->output_size, data, length);
    session->output_size += length;
}

// The client is told how many streams it may have, nghttp2 is not: it would end the connection over one more, where
// RFC 9113 section 5.1.2 wants that stream refused. It is the first of the settings, which are the first frame.
void put_streams_max(Session *session) {
    constexpr size_t at = FRAME_HEAD_BYTES + sizeof(uint16_t);
    uint32_t value = session->wire->bounds.streams_max;
    for (int i = 0; i < 4; i++) PyBytes_AS_STRING(session->output)[at + i] = static_cast<char>(value >> (24 - 8 * i));
    session->greeted = true;
}

ssize_t on_send(nghttp2_session *, const uint8_t *data, size_t length, int, void *user) {
    auto *session = static_cast<Session *>(user);
    if (session->output_size >= OUTPUT_BYTES_MAX) return NGHTTP2_ERR_WOULDBLOCK;
    if (!reserve_output(session, length)) return NGHTTP2_ERR_CALLBACK_FAILURE;
    put(session, data, length);
    if (!session->greeted) put_streams_max(session);
    return static_cast<ssize_t>(length);
}

// Moves `length` bytes of the body into the output: the one copy of them.
void move_body(Session *session, Stream *stream, size_t length) {
    stream->out_bytes -= length;
    answer_budget.used -= length;
    while (length != 0) {
        Chunk &chunk = stream->out[stream->out_first];
        size_t size = std::min(length, chunk.size() - stream->out_offset);
        put(session, chunk.data() + stream->out_offset, size);
        stream->out_offset += size;
        length -= size;
        if (stream->out_offset == chunk.size()) {
            if (chunk.borrowed) PyBuffer_Release(&chunk.view), chunk.borrowed = false;
            std::string().swap(chunk.bytes);
            stream->out_first++;
            stream->out_offset = 0;
        }
    }
    if (stream->out_first == stream->out.size()) stream->drop_out();
    if (stream->out_first >= WRITTEN_CHUNKS_MAX) {
        stream->out.erase(stream->out.begin(), stream->out.begin() + static_cast<std::ptrdiff_t>(stream->out_first));
        stream->out_first = 0;
    }
}

int on_send_data(nghttp2_session *, nghttp2_frame *frame, const uint8_t *head, size_t length, nghttp2_data_source *source, void *user) {
    auto *session = static_cast<Session *>(user);
    auto *stream = static_cast<Stream *>(source->ptr);
    (void)frame;
    if (session->output_size != 0 && session->output_size + length > OUTPUT_BYTES_MAX) return NGHTTP2_ERR_WOULDBLOCK;
    if (!reserve_output(session, FRAME_HEAD_BYTES + length)) return NGHTTP2_ERR_CALLBACK_FAILURE;
    put(session, head, FRAME_HEAD_BYTES);
    move_body(session, stream, length);
    session->idle_frames = 0;
    if (stream->full && stream->out_bytes <= session->wire->bounds.queued_bytes_max / 2) {
        stream->full = false;
        wire_add(session->wire, Event{EventKind::room, session, stream->id, nullptr, nullptr, 0, nullptr, false});
    }
    return 0;
}

void submit_trailers(nghttp2_session *http2, Stream *stream) {
    std::vector<nghttp2_nv> fields;
    for (const auto &each : stream->trailers) fields.push_back(field(each.first, each.second));
    nghttp2_submit_trailer(http2, stream->id, fields.data(), fields.size());
}

ssize_t on_read(nghttp2_session *http2, int32_t, uint8_t *, size_t length, uint32_t *flags, nghttp2_data_source *source, void *) {
    auto *stream = static_cast<Stream *>(source->ptr);
    size_t size = std::min(length, stream->out_bytes);
    if (size == 0 && !stream->finished) return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (size == stream->out_bytes && stream->finished) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (stream->has_trailers) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            submit_trailers(http2, stream);
        }
    }
    return static_cast<ssize_t>(size);
}

ssize_t on_frame_length(nghttp2_session *, uint8_t, int32_t, int32_t session_window, int32_t stream_window, uint32_t frame_bytes_max,
                        void *) {
    int32_t window = std::min(session_window, stream_window);
    return std::min<ssize_t>({window, static_cast<ssize_t>(frame_bytes_max), static_cast<ssize_t>(DATA_BYTES_MAX)});
}

// A gRPC client that is still sending when its answer is complete is told to stop, and that nothing is wrong. Of HTTP
// clients some read their answer only when they have sent everything: see `throw_away`.
int on_frame_sent(nghttp2_session *http2, const nghttp2_frame *frame, void *) {
    if (!(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) || frame->hd.type > NGHTTP2_HEADERS) return 0;
    auto *stream = static_cast<Stream *>(nghttp2_session_get_stream_user_data(http2, frame->hd.stream_id));
    if (stream != nullptr && !stream->ended && stream->kind != Stream::Kind::http)
        nghttp2_submit_rst_stream(http2, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
    return 0;
}

std::string percent_encoded(const std::string &text) {
    static const char DIGITS[] = "0123456789ABCDEF";
    std::string out;
    for (unsigned char byte : text) {
        if (byte >= 0x20 && byte < 0x7F && byte != '%') {
            out.push_back(static_cast<char>(byte));
        } else {
            out.push_back('%');
            out.push_back(DIGITS[byte >> 4]);
            out.push_back(DIGITS[byte & 15]);
        }
    }
    return out;
}

void submit(Session *session, Stream *stream, const nghttp2_nv *fields, size_t count, bool whole) {
    stream->started = true;
    if (whole) stream->finished = true;
    nghttp2_data_provider provider;
    provider.source.ptr = stream;
    provider.read_callback = on_read;
    nghttp2_submit_response(session->http2, stream->id, fields, count, whole ? nullptr : &provider);
}

void wake_stream(Session *session, Stream *stream) {
    nghttp2_session_resume_data(session->http2, stream->id);
    wire_dirty(session->wire, session);
}

const nghttp2_nv GRPC_HEAD[] = {
    constant(":status", "200"),
    constant("content-type", "application/grpc"),
    constant("grpc-accept-encoding", "identity,deflate,gzip"),
};
constexpr size_t GRPC_HEAD_FIELDS = sizeof GRPC_HEAD / sizeof *GRPC_HEAD;

}  // namespace

void set_answer_callbacks(nghttp2_session_callbacks *callbacks) {
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, on_send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, on_frame_length);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, on_frame_sent);
}

bool has_room(size_t size) {
    if (size <= answer_budget.limit && answer_budget.used <= answer_budget.limit - size) return true;
    PyErr_SetString(PyExc_MemoryError, "too many bytes of answers wait to be written");
    return false;
}

void add_bytes(Stream *stream, const char *data, size_t size) {
    if (size == 0) return;
    stream->count_out(size);
    bool own = stream->out_first < stream->out.size() && !stream->out.back().borrowed;
    if (!own) stream->out.emplace_back();
    stream->out.back().bytes.append(data, size);
}

bool add_buffer(Stream *stream, PyObject *buffer) {
    Chunk chunk;
    if (PyObject_GetBuffer(buffer, &chunk.view, PyBUF_SIMPLE) < 0) return false;
    size_t size = static_cast<size_t>(chunk.view.len);
    if (size > COPIED_BYTES_MAX) {
        stream->count_out(size);
        chunk.borrowed = true;
        stream->out.push_back(std::move(chunk));
        return true;
    }
    add_bytes(stream, static_cast<const char *>(chunk.view.buf), size);
    PyBuffer_Release(&chunk.view);
    return true;
}

void push_grpc(Session *session, Stream *stream) {
    if (stream->started) {
        wake_stream(session, stream);
        return;
    }
    submit(session, stream, GRPC_HEAD, GRPC_HEAD_FIELDS, false);
    wire_dirty(session->wire, session);
}

void finish_grpc(Session *session, Stream *stream, int code, const std::string &message) {
    stream->drop_message();
    stream->trailers.insert(stream->trailers.begin(), {"grpc-status", std::to_string(code)});
    if (!message.empty()) stream->trailers.insert(stream->trailers.begin() + 1, {"grpc-message", percent_encoded(message)});
    stream->finished = true;
    if (stream->out_bytes != 0) {  // they follow what is still to be written
        stream->has_trailers = true;
        push_grpc(session, stream);
        return;
    }
    if (stream->started) {  // now: an end without content would wait for the client's window
        submit_trailers(session->http2, stream);
    } else {
        std::vector<nghttp2_nv> fields(GRPC_HEAD, GRPC_HEAD + GRPC_HEAD_FIELDS);
        for (const auto &each : stream->trailers) fields.push_back(field(each.first, each.second));
        submit(session, stream, fields.data(), fields.size(), true);
    }
    wire_dirty(session->wire, session);
}

bool answer_http(Session *session, Stream *stream, int status, PyObject *headers) {
    std::string text = std::to_string(status);
    std::vector<nghttp2_nv> fields = {field(":status", 7, text.data(), text.size())};
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(headers); i++) {
        const char *name, *value;
        Py_ssize_t name_size, value_size;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(headers, i), "y#y#", &name, &name_size, &value, &value_size)) return false;
        fields.push_back(field(name, static_cast<size_t>(name_size), value, static_cast<size_t>(value_size)));
    }
    submit(session, stream, fields.data(), fields.size(), false);
    wire_dirty(session->wire, session);
    return true;
}

PyObject *take_output(Session *session) {
    session->output = PyBytes_FromStringAndSize(nullptr, OUTPUT_BYTES_FIRST);
    session->output_size = 0;
    if (session->output == nullptr) return nullptr;
    int error = nghttp2_session_send(session->http2);
    if (error != 0) session->failed = true;
    if (session->output == nullptr) return PyErr_NoMemory();
    if (session->output_size == 0) {
        Py_CLEAR(session->output);
        Py_RETURN_NONE;
    }
    PyObject *output = session->output;
    session->output = nullptr;
    if (_PyBytes_Resize(&output, static_cast<Py_ssize_t>(session->output_size)) < 0) return nullptr;
    return output;
}
