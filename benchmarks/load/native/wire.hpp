// One HTTP/2 connection (RFC 9113) as seen by a gRPC client that makes unary calls and nothing else. No sockets here.
//
// The twin of `benchmarks.load.http2`, in the same words: one suite of tests holds both to the same answers.
#pragma once

#include "frame.hpp"
#include "head.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

// How a request ended, as in `benchmarks.load.statuses`: 0..16 gRPC, 100..599 HTTP, from 1000 on our own.
enum Status : int16_t {
    OK = 0, CANCELLED = 1, UNKNOWN = 2, PERMISSION_DENIED = 7, RESOURCE_EXHAUSTED = 8, INTERNAL = 13, UNAVAILABLE = 14,
    UNANSWERED = 1001, UNSENT = 1002, PROTOCOL_BROKEN = 1003
};

struct Answer {
    uint32_t tag;
    int16_t status;
    int64_t at_ns; // when it was read; the pump's to fill in
};
using Answers = std::vector<Answer>;

// What a run sends: one header block for all requests, and bodies in rotation. Never changes; the caller keeps the bytes.
class Calls {
  public:
    // Throws std::invalid_argument where the block does not fit into one frame.
    Calls(std::string_view block, const std::vector<std::string_view> &bodies) : block(block) {
        if (block.size() > FRAME_BYTES_MAX) throw std::invalid_argument("the request header block exceeds a frame");
        for (std::string_view body : bodies) calls_.push_back({body, whole(body)});
    }

    // `frames` is HEADERS and DATA but for the stream id in both; empty where the body needs several frames.
    struct Call {
        std::string_view body;
        std::string frames;
    };
    const Call &of(uint32_t tag) const { return calls_[tag % calls_.size()]; }

    const std::string_view block;

  private:
    std::string whole(std::string_view body) const {
        std::string frames;
        if (body.size() > FRAME_BYTES_MAX) return frames;
        add_frame(frames, HEADERS, END_HEADERS, 0, block);
        add_frame(frames, DATA, END_STREAM, 0, body);
        return frames;
    }

    std::vector<Call> calls_;
};

// Owned by one pump; not for several threads.
class Wire {
  public:
    std::string outgoing;             // bytes to be sent, in order; the pump takes them out
    const char *farewell = nullptr;   // why no more requests may be submitted; null while they may

    Wire(const Calls &calls, uint32_t window_bytes, uint32_t first_id = 1)
        : calls_(calls), next_id_(first_id), credit_bytes_(window_bytes / 2) {
        outgoing = PREFACE;
        add_frame(outgoing, SETTINGS, 0, 0,
                  setting(HEADER_TABLE_SIZE, 0) + setting(ENABLE_PUSH, 0) + setting(INITIAL_WINDOW_SIZE, window_bytes));
        if (window_bytes > WINDOW_DEFAULT_BYTES) grant(0, uint32_t(window_bytes - WINDOW_DEFAULT_BYTES));
    }

    // Whether one more request may be submitted now.
    bool room() const { return streams_.size() < streams_max_ && !farewell; }

    // Nothing is in flight and nothing will be: the connection may be closed.
    bool spent() const { return farewell && streams_.empty(); }

    // Put a request into `outgoing`, or hold back what flow control forbids.
    void submit(uint32_t tag) {
        const Calls::Call &call = calls_.of(tag);
        uint32_t id = next_id_;
        next_id_ += 2;
        if (next_id_ > STREAM_ID_MAX) farewell = "the connection ran out of stream ids";
        streams_.emplace(id, Stream{tag});
        int64_t size = int64_t(call.body.size());
        int64_t most = std::min({frame_bytes_max_, send_window_, stream_window_});
        if (call.frames.empty() || !uploads_.empty() || size > most) {
            submit_in_parts(id, call.body);
            return;
        }
        send_window_ -= size;
        size_t headers_at = outgoing.size(), data_at = headers_at + FRAME_BYTES + calls_.block.size();
        outgoing += call.frames;
        write_u32(&outgoing[headers_at + STREAM_ID_AT], id);
        write_u32(&outgoing[data_at + STREAM_ID_AT], id);
    }

    // Take bytes from the peer and append the answers they finish. Throws WireError.
    void receive(std::string_view data, Answers &answers) {
        bool joined = !rest_.empty();
        if (joined) data = rest_.append(data);
        size_t at = 0;
        while (data.size() - at >= FRAME_BYTES) {
            FrameHead head = read_frame_head(&data[at]);
            if (head.size > FRAME_BYTES_MAX) throw WireError("a frame of " + std::to_string(head.size) + " bytes");
            if (data.size() - at - FRAME_BYTES < head.size) break;
            on_frame(head, data.substr(at + FRAME_BYTES, head.size), answers);
            at += FRAME_BYTES + head.size;
        }
        if (joined) rest_.erase(0, at);
        else rest_ = data.substr(at);
    }

    // The connection is gone: append all unfinished requests with this status.
    void lose(Answers &answers, int16_t status) {
        for (const auto &[id, stream] : streams_) answers.push_back({stream.tag, status, 0});
        streams_.clear();
        uploads_.clear();
        if (!farewell) farewell = "connection lost";
    }

  private:
    static constexpr uint32_t STREAMS_UNTIL_SETTINGS = 100;
    static constexpr size_t BLOCK_BYTES_MAX = 65536;
    static constexpr uint32_t CANCEL = 0x8; // error codes of RST_STREAM

    struct Stream {
        uint32_t tag;
        uint32_t received_bytes = 0; // since credit was last returned
        int http_status = Head::ABSENT;
    };
    // A body that flow control has not let through whole.
    struct Upload {
        std::string_view rest;
        int64_t window_bytes;
    };
    // A header block that goes on in CONTINUATION frames.
    struct Block {
        uint32_t stream_id;
        bool ends_stream;
        std::string bytes;
    };

    void grant(uint32_t stream_id, uint32_t bytes) { add_frame(outgoing, WINDOW_UPDATE, 0, stream_id, u32_bytes(bytes)); }

    void submit_in_parts(uint32_t id, std::string_view body) {
        add_frame(outgoing, HEADERS, END_HEADERS, id, calls_.block);
        uploads_.emplace(id, Upload{body, stream_window_});
        upload();
    }

    // Send what the windows allow, oldest call first.
    void upload() {
        for (auto at = uploads_.begin(); at != uploads_.end() && send_window_ > 0;) {
            upload_one(at->first, at->second);
            at = at->second.rest.empty() ? uploads_.erase(at) : std::next(at);
        }
    }

    void upload_one(uint32_t id, Upload &one) {
        while (!one.rest.empty()) {
            int64_t size = std::min({int64_t(one.rest.size()), frame_bytes_max_, send_window_, one.window_bytes});
            if (size <= 0) return;
            std::string_view part = one.rest.substr(0, size_t(size));
            one.rest.remove_prefix(size_t(size));
            add_frame(outgoing, DATA, one.rest.empty() ? END_STREAM : 0, id, part);
            send_window_ -= size;
            one.window_bytes -= size;
        }
    }

    void on_frame(FrameHead head, std::string_view payload, Answers &answers) {
        if (head.kind == DATA)
            on_data(head, answers);
        else if (head.kind == HEADERS && (head.flags & (END_HEADERS | PADDED | WITH_PRIORITY)) == END_HEADERS)
            on_block(head.stream_id, head.flags & END_STREAM, payload, answers);
        else
            on_rare(head, payload, answers);
    }

    // A whole header block: response headers, trailers, or both in one.
    void on_block(uint32_t id, bool ends_stream, std::string_view block, Answers &answers) {
        Head head = HeadReader::read(block);
        auto found = streams_.find(id);
        if (found == streams_.end()) return;
        if (!ends_stream) {
            if (head.http_status >= 200) found->second.http_status = head.http_status;
            return;
        }
        int http = found->second.http_status != Head::ABSENT ? found->second.http_status : head.http_status;
        bool told = head.grpc_status != Head::ABSENT && (http == 200 || http == Head::ABSENT);
        finish(id, int16_t(told ? head.grpc_status : status_without_trailer(http)), answers);
    }

    // A stream that ended without grpc-status: the HTTP code where that is an error.
    static int status_without_trailer(int http) { return http == Head::ABSENT || http == 200 ? UNKNOWN : http; }

    // Return credit, and end the stream where a server ends it without trailers.
    void on_data(FrameHead head, Answers &answers) {
        unreturned_bytes_ += head.size;
        if (unreturned_bytes_ > credit_bytes_) {
            grant(0, unreturned_bytes_);
            unreturned_bytes_ = 0;
        }
        auto found = streams_.find(head.stream_id);
        if (found == streams_.end()) return;
        Stream &stream = found->second;
        if (head.flags & END_STREAM) {
            finish(head.stream_id, int16_t(status_without_trailer(stream.http_status)), answers);
            return;
        }
        stream.received_bytes += head.size;
        if (stream.received_bytes > credit_bytes_) {
            grant(head.stream_id, stream.received_bytes);
            stream.received_bytes = 0;
        }
    }

    // The server has said all it will; it may have done so before the request was sent whole.
    void finish(uint32_t id, int16_t status, Answers &answers) {
        if (uploads_.count(id)) add_frame(outgoing, RST_STREAM, 0, id, u32_bytes(CANCEL));
        drop(id, status, answers);
    }

    void drop(uint32_t id, int16_t status, Answers &answers) {
        uploads_.erase(id);
        auto found = streams_.find(id);
        if (found == streams_.end()) return;
        answers.push_back({found->second.tag, status, 0});
        streams_.erase(found);
    }

    // All frames but DATA and plain HEADERS; kinds we do not know are skipped, as the standard asks.
    void on_rare(FrameHead head, std::string_view payload, Answers &answers) {
        bool ack = head.flags & ACK;
        if (head.kind == HEADERS || head.kind == CONTINUATION) on_headers_part(head, payload, answers);
        else if (head.kind == SETTINGS && !ack) on_settings(payload);
        else if (head.kind == PING && !ack) add_frame(outgoing, PING, ACK, 0, payload);
        else if (head.kind == WINDOW_UPDATE) on_window_update(head.stream_id, number(payload) & STREAM_ID_MAX);
        else if (head.kind == RST_STREAM) drop(head.stream_id, reset_status(number(payload)), answers);
        else if (head.kind == GOAWAY) on_goaway(number(payload.substr(0, 4)) & STREAM_ID_MAX, answers);
    }

    static uint32_t number(std::string_view payload) {
        if (payload.size() != 4) throw WireError("a frame of the wrong size");
        return read_u32(payload.data());
    }

    // After the table in "gRPC over HTTP/2"; see `statuses.reset_status`.
    static int16_t reset_status(uint32_t error_code) {
        switch (error_code) {
        case 0x7: return UNAVAILABLE;
        case CANCEL: return CANCELLED;
        case 0xb: return RESOURCE_EXHAUSTED;
        case 0xc: return PERMISSION_DENIED;
        default: return INTERNAL;
        }
    }

    void on_headers_part(FrameHead head, std::string_view payload, Answers &answers) {
        if (head.kind == HEADERS)
            block_ = Block{head.stream_id, bool(head.flags & END_STREAM), std::string(unpadded(head.flags, payload))};
        else if (!block_ || block_->stream_id != head.stream_id)
            throw WireError("CONTINUATION without HEADERS before it");
        else
            block_->bytes += payload;
        if (block_->bytes.size() > BLOCK_BYTES_MAX) throw WireError("a header block beyond reason");
        if (!(head.flags & END_HEADERS)) return;
        Block whole = std::move(*block_);
        block_.reset();
        on_block(whole.stream_id, whole.ends_stream, whole.bytes, answers);
    }

    // The header block inside a HEADERS payload that may carry padding and priority.
    static std::string_view unpadded(uint8_t flags, std::string_view payload) {
        size_t start = (flags & PADDED ? 1 : 0) + (flags & WITH_PRIORITY ? 5 : 0);
        size_t padding = flags & PADDED && !payload.empty() ? uint8_t(payload[0]) : 0;
        if (start + padding > payload.size()) throw WireError("more padding than there is frame");
        return payload.substr(start, payload.size() - start - padding);
    }

    void on_settings(std::string_view payload) {
        if (payload.size() % SETTING_BYTES) throw WireError("SETTINGS of the wrong size");
        if (!greeted_) streams_max_ = STREAM_ID_MAX; // a server that names no bound sets none
        greeted_ = true;
        for (size_t at = 0; at < payload.size(); at += SETTING_BYTES)
            on_setting(read_u16(&payload[at]), read_u32(&payload[at + 2]));
        add_frame(outgoing, SETTINGS, ACK, 0);
        upload();
    }

    void on_setting(uint32_t name, uint32_t value) {
        if (name == MAX_CONCURRENT_STREAMS) streams_max_ = value;
        else if (name == MAX_FRAME_SIZE) frame_bytes_max_ = value;
        else if (name == INITIAL_WINDOW_SIZE) move_windows(value);
    }

    // A new INITIAL_WINDOW_SIZE moves the windows of open streams too, below zero if need be.
    void move_windows(int64_t window_bytes) {
        for (auto &[id, one] : uploads_) one.window_bytes += window_bytes - stream_window_;
        stream_window_ = window_bytes;
    }

    void on_window_update(uint32_t id, uint32_t more_bytes) {
        auto found = uploads_.find(id);
        if (id == 0) send_window_ += more_bytes;
        else if (found != uploads_.end()) found->second.window_bytes += more_bytes;
        upload();
    }

    // No new calls here; those above `last_id` were never looked at and are lost.
    void on_goaway(uint32_t last_id, Answers &answers) {
        farewell = "the server sent GOAWAY";
        std::vector<uint32_t> lost;
        for (const auto &[id, stream] : streams_)
            if (id > last_id) lost.push_back(id);
        for (uint32_t id : lost) drop(id, UNAVAILABLE, answers);
    }

    const Calls &calls_;
    std::unordered_map<uint32_t, Stream> streams_;
    std::map<uint32_t, Upload> uploads_; // by stream id, which is by age
    uint32_t next_id_;
    std::string rest_; // the start of a frame whose end has not come
    std::optional<Block> block_;
    bool greeted_ = false;
    uint32_t streams_max_ = STREAMS_UNTIL_SETTINGS;
    int64_t frame_bytes_max_ = FRAME_BYTES_MAX;
    int64_t send_window_ = WINDOW_DEFAULT_BYTES;   // what the server still takes on the connection
    int64_t stream_window_ = WINDOW_DEFAULT_BYTES; // and on a new stream
    const uint32_t credit_bytes_;                  // return credit once this much has come
    uint32_t unreturned_bytes_ = 0;
};
