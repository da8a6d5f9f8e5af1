// The C++ wire and header reader without sockets, for the tests that hold them to their Python twins (`native_wire`).
#include "benchmarks/load/native/wire.hpp"

#include <cstring>

struct Probe {
    Probe(std::string_view block, std::string_view body, uint32_t window_bytes, uint32_t first_id)
        : block(block), body(body), calls(this->block, {this->body}), wire(calls, window_bytes, first_id) {}

    const std::string block, body;
    const Calls calls;
    Wire wire;
    Answers answers; // of the last call
};

extern "C" {

Probe *wire_open(const char *block, size_t block_bytes, const char *body, size_t body_bytes, uint32_t window_bytes,
                 uint32_t first_id) {
    return new Probe({block, block_bytes}, {body, body_bytes}, window_bytes, first_id);
}

void wire_close(Probe *probe) { delete probe; }
bool wire_room(const Probe *probe) { return probe->wire.room(); }
bool wire_spent(const Probe *probe) { return probe->wire.spent(); }
const char *wire_farewell(const Probe *probe) { return probe->wire.farewell; }
void wire_submit(Probe *probe, uint32_t tag) { probe->wire.submit(tag); }

// Whether the protocol is unbroken.
bool wire_receive(Probe *probe, const char *data, size_t size) {
    probe->answers.clear();
    try {
        probe->wire.receive({data, size}, probe->answers);
    } catch (const WireError &) {
        return false;
    }
    return true;
}

void wire_lose(Probe *probe) {
    probe->answers.clear();
    probe->wire.lose(probe->answers, UNAVAILABLE);
}

// How many answers the last call gave; copies the one at `at` unless there are no more.
size_t wire_answer(const Probe *probe, size_t at, uint32_t *tag, int16_t *status) {
    if (at < probe->answers.size()) {
        *tag = probe->answers[at].tag;
        *status = probe->answers[at].status;
    }
    return probe->answers.size();
}

size_t wire_outgoing_bytes(const Probe *probe) { return probe->wire.outgoing.size(); }

void wire_take_outgoing(Probe *probe, char *into) {
    memcpy(into, probe->wire.outgoing.data(), probe->wire.outgoing.size());
    probe->wire.outgoing.clear();
}

// Whether the block can be read; both statuses are -1 where it does not say them.
bool head_read(const char *block, size_t block_bytes, int *http_status, int *grpc_status) {
    try {
        Head head = HeadReader::read({block, block_bytes});
        *http_status = head.http_status;
        *grpc_status = head.grpc_status;
    } catch (const WireError &) {
        return false;
    }
    return true;
}
}
