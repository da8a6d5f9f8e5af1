// A gRPC server that answers every call with the same bytes, unread, on one thread: it shows what the generator can
// offer. The twin of `benchmarks.peers.null_server`, whose docstring has the figures.
//
//     $(.venv/bin/python -m benchmarks.load.native.build) 9000
#include "frame.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

constexpr size_t READ_BYTES = 256 * 1024;
constexpr uint32_t STREAMS_MAX = 10'000;

std::string literal(std::string_view name, std::string_view value) {
    return std::string(1, '\0') + char(name.size()) + std::string(name) + char(value.size()) + std::string(value);
}

std::string greeting() {
    std::string bytes;
    add_frame(bytes, SETTINGS, 0, 0,
              setting(MAX_CONCURRENT_STREAMS, STREAMS_MAX) + setting(INITIAL_WINDOW_SIZE, WINDOW_MAX_BYTES));
    add_frame(bytes, WINDOW_UPDATE, 0, 0, u32_bytes(WINDOW_MAX_BYTES - WINDOW_DEFAULT_BYTES));
    return bytes;
}

// Three frames but for their stream ids, and where those belong.
struct CannedAnswer {
    std::string bytes;
    size_t ids_at[3];

    CannedAnswer() {
        ids_at[0] = STREAM_ID_AT;
        add_frame(bytes, HEADERS, END_HEADERS, 0, "\x88" + literal("content-type", "application/grpc"));
        ids_at[1] = bytes.size() + STREAM_ID_AT;
        add_frame(bytes, DATA, 0, 0, std::string("\0\0\0\0\x10", 5) + std::string(16, '\0'));
        ids_at[2] = bytes.size() + STREAM_ID_AT;
        add_frame(bytes, HEADERS, END_HEADERS | END_STREAM, 0, literal("grpc-status", "0"));
    }

    void add_to(std::string &out, uint32_t stream_id) const {
        size_t begin = out.size();
        out += bytes;
        for (size_t at : ids_at) write_u32(&out[begin + at], stream_id);
    }
};

class Connection {
  public:
    explicit Connection(int descriptor) : descriptor_(descriptor), outgoing_(greeting()) {}
    ~Connection() { close(descriptor_); }

    // Take what has arrived and answer it; false when the client has gone. Blocks where the client does not read.
    bool serve(const CannedAnswer &answer) {
        static char buffer[READ_BYTES];
        ssize_t size = recv(descriptor_, buffer, sizeof buffer, 0);
        if (size <= 0) return false;
        unread_.append(buffer, size_t(size));
        answer_all(answer);
        ssize_t sent = send(descriptor_, outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
        bool whole = sent == ssize_t(outgoing_.size());
        outgoing_.clear();
        return whole;
    }

  private:
    void answer_all(const CannedAnswer &answer) {
        size_t at = unread_.compare(0, PREFACE.size(), PREFACE) == 0 ? PREFACE.size() : 0;
        while (unread_.size() - at >= FRAME_BYTES) {
            FrameHead head = read_frame_head(&unread_[at]);
            if (unread_.size() - at - FRAME_BYTES < head.size) break;
            at += FRAME_BYTES + head.size;
            on_frame(head, answer);
        }
        unread_.erase(0, at);
    }

    void on_frame(FrameHead head, const CannedAnswer &answer) {
        if (head.kind == SETTINGS && !(head.flags & ACK)) add_frame(outgoing_, SETTINGS, ACK, 0);
        if (head.kind != DATA) return;
        if (head.flags & END_STREAM) answer.add_to(outgoing_, head.stream_id);
        spent_bytes_ += head.size;
        if (spent_bytes_ < WINDOW_MAX_BYTES / 2) return;
        add_frame(outgoing_, WINDOW_UPDATE, 0, 0, u32_bytes(spent_bytes_));
        spent_bytes_ = 0;
    }

    const int descriptor_;
    std::string unread_, outgoing_;
    uint32_t spent_bytes_ = 0; // since credit was last returned
};

int listening(uint16_t port) {
    int descriptor = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    bool listens = bind(descriptor, reinterpret_cast<sockaddr *>(&address), sizeof address) == 0 && listen(descriptor, 128) == 0;
    return listens ? descriptor : -1;
}

void watch(int epoll, int descriptor, Connection *connection) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = connection;
    epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
}

void accept_one(int epoll, int listener) {
    int descriptor = accept(listener, nullptr, nullptr), on = 1;
    if (descriptor < 0) return;
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(epoll, descriptor, new Connection(descriptor));
}

} // namespace

int main(int count, char **words) {
    int port = count == 2 ? atoi(words[1]) : 0;
    int listener = port > 0 && port < 65536 ? listening(uint16_t(port)) : -1;
    if (listener < 0) {
        fprintf(stderr, "usage: null_server PORT, a port of 127.0.0.1 that nobody uses\n");
        return 2;
    }
    const CannedAnswer answer;
    int epoll = epoll_create1(0);
    watch(epoll, listener, nullptr);
    for (epoll_event events[64];;) {
        int ready = epoll_wait(epoll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            auto *connection = static_cast<Connection *>(events[i].data.ptr);
            if (!connection) accept_one(epoll, listener);
            else if (!connection->serve(answer)) delete connection;
        }
    }
}
