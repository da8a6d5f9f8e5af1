// Response header blocks (HPACK, RFC 7541), read for two numbers and no more. Pure.
//
// We told the server a dynamic table of size zero, so a block can be read by itself. Strings may be Huffman coded (h2
// and nghttp2 do so): a name has one coding only and is compared as it stands, and of values only digits are decoded.
// `benchmarks.load.headers.read_head` does the same with a whole decoder; a test holds the two together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

// The peer broke the protocol; the connection is of no further use.
struct WireError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// What we want to know of a header block; ABSENT where the block does not say it.
struct Head {
    static constexpr int ABSENT = -1;
    int http_status = ABSENT;
    int grpc_status = ABSENT;
};

class HeadReader {
  public:
    // Throws WireError where the block is damaged or leans on a dynamic table.
    static Head read(std::string_view block) {
        HeadReader reader(block);
        while (reader.at_ < block.size()) reader.field();
        return reader.head_;
    }

  private:
    enum class Name { status, grpc_status, other };
    struct Text {
        bool huffman;
        std::string_view bytes;
    };
    static constexpr uint32_t STATIC_FIELDS = 61, STATUS_FIRST = 8, STATUS_LAST = 14; // RFC 7541, appendix A
    static constexpr int STATUSES[] = {200, 204, 206, 304, 400, 404, 500};
    static constexpr std::string_view STATUS_CODED = "\xb8\x84\x8d\x36\xa3";                // ":status"
    static constexpr std::string_view GRPC_STATUS_CODED = "\x9a\xca\xc8\xb2\x12\x34\xda\x8f"; // "grpc-status"

    explicit HeadReader(std::string_view block) : block_(block) {}

    void field() {
        uint8_t first = byte(block_, at_);
        if (first & 0x80)
            indexed(integer(7));
        else if ((first & 0xe0) == 0x20) {
            if (integer(5) != 0) fail("makes its dynamic table larger than we allow");
        } else
            literal(integer(first & 0x40 ? 6 : 4));
    }

    void indexed(uint32_t index) {
        check_index(index);
        if (index >= STATUS_FIRST && index <= STATUS_LAST) head_.http_status = STATUSES[index - STATUS_FIRST];
    }

    void literal(uint32_t index) {
        Name name = index ? name_at(index) : name_of(text());
        Text value = text();
        if (name == Name::status) head_.http_status = number(value);
        if (name == Name::grpc_status) head_.grpc_status = number(value);
    }

    static Name name_at(uint32_t index) {
        check_index(index);
        return index >= STATUS_FIRST && index <= STATUS_LAST ? Name::status : Name::other;
    }

    static Name name_of(Text name) {
        if (name.bytes == (name.huffman ? STATUS_CODED : ":status")) return Name::status;
        if (name.bytes == (name.huffman ? GRPC_STATUS_CODED : "grpc-status")) return Name::grpc_status;
        return Name::other;
    }

    // An integer whose first byte holds `bits` of it (section 5.1).
    uint32_t integer(int bits) {
        uint32_t most = (1u << bits) - 1, value = byte(block_, at_++) & most;
        if (value < most) return value;
        for (int shift = 0; shift <= 21; shift += 7) {
            uint8_t next = byte(block_, at_++);
            value += uint32_t(next & 0x7f) << shift;
            if (next < 0x80) return value;
        }
        fail("holds a number beyond reason");
    }

    Text text() {
        bool huffman = byte(block_, at_) & 0x80;
        uint32_t size = integer(7);
        if (size > block_.size() - at_) fail("is cut short");
        at_ += size;
        return {huffman, block_.substr(at_ - size, size)};
    }

    static int number(Text value) {
        std::string digits = value.huffman ? decode_digits(value.bytes) : std::string(value.bytes);
        if (digits.empty() || digits.size() > 3 || digits.find_first_not_of("0123456789") != std::string::npos)
            fail("has a status that is not a number");
        return std::stoi(digits);
    }

    // Huffman codes of digits (appendix B): 0, 1, 2 are the 5-bit codes 0, 1, 2; 3 to 9 the 6-bit codes 0x19 to 0x1f.
    // What follows the last digit is less than a byte of ones.
    static std::string decode_digits(std::string_view coded) {
        std::string digits;
        size_t bits = coded.size() * 8, at = 0;
        auto take = [&](size_t count) {
            uint32_t value = 0;
            for (size_t i = at; i < at + count; i++) value = value << 1 | (byte(coded, i / 8) >> (7 - i % 8) & 1);
            return value;
        };
        while (bits - at >= 5) {
            uint32_t code = take(5);
            size_t length = code <= 2 ? 5 : 6;
            if (length > bits - at) break;
            if (length == 6) code = take(6);
            if (code > 0x1f) break; // padding, or no digit
            if (length == 6 && code < 0x19) return "?";
            digits += char('0' + (length == 5 ? code : code - 0x19 + 3));
            at += length;
        }
        size_t left = bits - at;
        return left < 8 && take(left) == (1u << left) - 1 ? digits : "?";
    }

    static void check_index(uint32_t index) {
        if (index == 0 || index > STATIC_FIELDS) fail("leans on a dynamic table");
    }

    static uint8_t byte(std::string_view bytes, size_t at) {
        if (at >= bytes.size()) fail("is cut short");
        return uint8_t(bytes[at]);
    }

    [[noreturn]] static void fail(const char *why) { throw WireError(std::string("a response header block ") + why); }

    std::string_view block_;
    size_t at_ = 0;
    Head head_;
};
