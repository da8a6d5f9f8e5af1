// HTTP/2 frames (RFC 9113, section 4) as bytes: what the generator and the null server share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

enum FrameKind : uint8_t {
    DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION
};
enum SettingName : uint16_t {
    HEADER_TABLE_SIZE = 1, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE
};

constexpr std::string_view PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
constexpr uint8_t END_STREAM = 0x1, ACK = 0x1, END_HEADERS = 0x4, PADDED = 0x8, WITH_PRIORITY = 0x20;
constexpr size_t FRAME_BYTES = 9, FRAME_BYTES_MAX = 16384, SETTING_BYTES = 6;
constexpr size_t STREAM_ID_AT = 5; // where in a frame its stream id is
constexpr int64_t WINDOW_DEFAULT_BYTES = 65535, WINDOW_MAX_BYTES = 0x7fffffff;
constexpr uint32_t STREAM_ID_MAX = 0x7fffffff;

inline uint32_t read_u16(const char *at) { return uint32_t(uint8_t(at[0])) << 8 | uint8_t(at[1]); }
inline uint32_t read_u32(const char *at) { return read_u16(at) << 16 | read_u16(at + 2); }

inline void write_u32(char *at, uint32_t value) {
    for (int i = 3; i >= 0; i--, value >>= 8) at[i] = char(value);
}

inline std::string u32_bytes(uint32_t value) {
    std::string bytes(4, '\0');
    write_u32(bytes.data(), value);
    return bytes;
}

struct FrameHead {
    uint32_t size; // of the payload
    uint8_t kind;
    uint8_t flags;
    uint32_t stream_id;
};

inline FrameHead read_frame_head(const char *at) {
    return {read_u32(at) >> 8, uint8_t(at[3]), uint8_t(at[4]), read_u32(at + STREAM_ID_AT) & STREAM_ID_MAX};
}

inline void add_frame(std::string &out, uint8_t kind, uint8_t flags, uint32_t stream_id, std::string_view payload = {}) {
    char head[FRAME_BYTES];
    write_u32(head, uint32_t(payload.size()) << 8 | kind);
    head[4] = char(flags);
    write_u32(head + STREAM_ID_AT, stream_id);
    out.append(head, FRAME_BYTES).append(payload);
}

inline std::string setting(SettingName name, uint32_t value) {
    return std::string{char(name >> 8), char(name)} + u32_bytes(value);
}
