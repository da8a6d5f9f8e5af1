// The client's side of one HTTP/2 connection (RFC 9113) that carries gRPC calls, with its socket where that is a plain one.
// Does what `engine/triton/http2.py` does, which says why; both pass the same tests.
#pragma once

#include "exchange.hpp"
#include "output.hpp"

#include <string>
#include <vector>

struct Bounds {
    uint32_t frame_bytes_max, streams_max, read_bytes;
    int64_t stream_window_bytes, connection_window_bytes;
    size_t message_bytes_max;
};

// The fields of a block of headers that came before: whoever sends it keeps no table, so that equal bytes mean equal headers.
struct KnownHeaders {
    std::string block;
    PyObject *fields = nullptr;
    bool status_200 = false, grpc_ok = false;
};

struct State {
    Bounds bounds = {};
    Output out;
    std::vector<Exchange *> under_way;  // by the numbers of their streams, which grow
    std::vector<Exchange *> blocked;    // flow control holds some of their bodies back
    std::vector<KnownHeaders> known;
    std::vector<uint8_t> in;            // what was read is at [in_at, in_end)
    size_t in_at = 0, in_end = 0;
    uint32_t next_id = 1;
    int64_t window = 65535, stream_window = 65535;
    size_t frame_bytes = 16384;
    size_t streams_max = 0;
    int64_t unread = 0;
    bool closing = false;
    bool block_open = false;  // the frames of a header block are still coming
    uint32_t block_stream = 0;
    bool block_last = false;
    std::string block;
};

struct Session {
    PyObject_HEAD
    State *state;
    int socket;  // -1: none, or closed
    bool wants_write;
    PyObject *reader;       // block -> dict of its fields
    PyObject *blocked;      // called when the socket takes no more for now
    PyObject *unavailable;  // what is raised where no call can be sent
};

extern PyTypeObject SessionType;

enum Kind : uint8_t { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PUSH_PROMISE = 5, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8, CONTINUATION = 9 };
enum Flag : uint8_t { END_STREAM = 0x1, ACK = 0x1, END_HEADERS = 0x4, PADDED = 0x8, PRIORITY = 0x20 };
enum Setting : uint16_t { HEADER_TABLE_SIZE = 1, ENABLE_PUSH = 2, CONCURRENT_MAX = 3, INITIAL_WINDOW = 4, FRAME_SIZE = 5 };
constexpr long REFUSED = 7, CANCEL = 8, TOO_LARGE = -1;

void put_number(Output &out, uint8_t kind, uint32_t stream, uint32_t number);  // a frame of one
Exchange *find(State &state, uint32_t id);                                     // borrowed; null where it is not under way
Exchange *take_out(State &state, uint32_t id);                                 // the reference goes to the caller
void pump(State &state);
bool parse(Session *session, PyObject *heard);  // what has been read; false with an exception set
