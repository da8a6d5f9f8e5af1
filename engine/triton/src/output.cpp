#include "output.hpp"

#include <algorithm>
#include <cerrno>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utility>

namespace {

constexpr size_t HELD_BYTES_MIN = 16 * 1024;   // less is copied: cheaper than to hold on to it
constexpr size_t ALONE_BYTES_MAX = 64 * 1024;  // more is sent without the interpreter: others may go on
constexpr size_t SPARE_BYTES_MAX = 64 * 1024;
constexpr size_t PIECES_MAX = 64;  // at once

ssize_t send_pieces(int socket, iovec *pieces, size_t count) {
    msghdr message = {};
    message.msg_iov = pieces;
    message.msg_iovlen = count;
    ssize_t sent;
    do sent = sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent;
}

}  // namespace

std::string &Output::tail() {
    if (pieces.empty() || pieces.back().held != nullptr || pieces.back().sealed) {
        pieces.emplace_back();
        pieces.back().own = std::move(spare);
        pieces.back().own.clear();
        spare = std::string();
    }
    return pieces.back().own;
}

void Output::put(const void *data, size_t size) { tail().append(static_cast<const char *>(data), size); }

void Output::put(PyObject *bytes, size_t at, size_t size) {
    const char *data = PyBytes_AS_STRING(bytes) + at;
    if (size < HELD_BYTES_MIN) {
        put(data, size);
        return;
    }
    pieces.emplace_back();
    pieces.back().held = Py_NewRef(bytes);
    pieces.back().data = data;
    pieces.back().size = size;
}

void Output::put_frame(uint8_t kind, uint8_t flags, uint32_t stream, size_t size) {
    uint8_t head[9] = {
        static_cast<uint8_t>(size >> 16), static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size), kind, flags,
        static_cast<uint8_t>(stream >> 24), static_cast<uint8_t>(stream >> 16), static_cast<uint8_t>(stream >> 8), static_cast<uint8_t>(stream),
    };
    put(head, sizeof head);
}

void Output::drop_first() {
    Piece &first = pieces.front();
    PyObject *held = first.held;
    if (held == nullptr && first.own.capacity() <= SPARE_BYTES_MAX) spare = std::move(first.own);
    pieces.pop_front();
    begun = 0;
    Py_XDECREF(held);
}

void Output::sent(size_t size) {
    while (!pieces.empty()) {
        size_t left = pieces.front().length() - begun;
        if (size < left) break;
        size -= left;
        drop_first();
    }
    begun += size;
}

bool Output::send(const int &socket) {
    if (sending) return true;  // whoever does sends this as well
    while (!pieces.empty() && socket >= 0) {
        iovec parts[PIECES_MAX];
        size_t count = std::min(pieces.size(), PIECES_MAX), size = 0;
        for (size_t i = 0; i < count; i++) {
            size_t from = i == 0 ? begun : 0;
            parts[i] = {const_cast<char *>(pieces[i].begin()) + from, pieces[i].length() - from};
            size += parts[i].iov_len;
            pieces[i].sealed = true;
        }
        ssize_t took;
        int error;
        if (size > ALONE_BYTES_MAX) {
            sending = true;
            Py_BEGIN_ALLOW_THREADS;
            took = send_pieces(socket, parts, count);
            error = errno;
            Py_END_ALLOW_THREADS;
            sending = false;
        } else {
            took = send_pieces(socket, parts, count);
            error = errno;
        }
        if (took < 0 && (error == EAGAIN || error == EWOULDBLOCK)) return false;
        sent(took < 0 ? size : static_cast<size_t>(took));
    }
    return true;
}

PyObject *Output::take() {
    std::string all;
    for (size_t i = 0; i < pieces.size(); i++) all.append(pieces[i].begin() + (i == 0 ? begun : 0), pieces[i].length() - (i == 0 ? begun : 0));
    clear();
    return PyBytes_FromStringAndSize(all.data(), static_cast<Py_ssize_t>(all.size()));
}

void Output::clear() {
    while (!pieces.empty()) drop_first();
}
