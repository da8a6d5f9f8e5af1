// Sockets between the wires and a server: one thread, one epoll, batched reads and writes. Knows no protocol.
//
// The twin of `benchmarks.load.pump`.
#pragma once

#include "wire.hpp"

#include <cstring>
#include <deque>
#include <memory>
#include <set>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

constexpr int64_t NS_PER_S = 1'000'000'000;

inline int64_t clock_ns(clockid_t clock) {
    timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

// The clock that Python's time.monotonic_ns reads.
inline int64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }

// The CPU time of this process, user and system.
inline int64_t cpu_ns() { return clock_ns(CLOCK_PROCESS_CPUTIME_ID); }

inline bool connect_in_time(int descriptor, const addrinfo &address) {
    constexpr timeval CONNECT_MAX{5, 0};
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &CONNECT_MAX, sizeof CONNECT_MAX);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return connect(descriptor, address.ai_addr, address.ai_addrlen) == 0 && fcntl(descriptor, F_SETFL, O_NONBLOCK) == 0;
}

// A connected, non-blocking TCP socket. Throws std::system_error, or std::runtime_error for a host without address.
inline int connected_socket(const std::string &host, const std::string &port) {
    addrinfo wanted{}, *found = nullptr;
    wanted.ai_socktype = SOCK_STREAM;
    if (int failed = getaddrinfo(host.c_str(), port.c_str(), &wanted, &found)) throw std::runtime_error(gai_strerror(failed));
    std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
    int why = EADDRNOTAVAIL;
    for (addrinfo *one = found; one; one = one->ai_next) {
        int descriptor = socket(one->ai_family, one->ai_socktype | SOCK_CLOEXEC, one->ai_protocol);
        if (descriptor >= 0 && connect_in_time(descriptor, *one)) return descriptor;
        why = errno;
        if (descriptor >= 0) close(descriptor);
    }
    throw std::system_error(why, std::generic_category());
}

// One socket and its wire.
struct Link {
    Link(int descriptor, const Calls &calls, uint32_t window_bytes) : descriptor(descriptor), wire(calls, window_bytes) {}
    Link(const Link &) = delete;
    ~Link() { close(descriptor); }

    // Requests wait in the pump rather than as copies in here.
    bool room() const { return wire.room() && wire.outgoing.size() - sent_bytes < OUTGOING_BYTES_MAX; }

    static constexpr size_t OUTGOING_BYTES_MAX = 4 << 20;

    const int descriptor;
    Wire wire;
    size_t sent_bytes = 0; // of wire.outgoing
    bool blocked = false;  // the socket takes no more until epoll says so
    bool dirty = false;    // is in the pump's list of links to flush
    bool listed = false;   // is in the pump's queue of links with room
    bool replaced = false; // another link stands in for this one, which may only finish what it has begun
};

// Sends requests over several links, round robin, and hands back answers. Owned by one thread.
//
// A request that finds no link with room waits here; past IN_FLIGHT_MAX unfinished requests a new one fails as UNSENT.
// A link that is lost fails its requests. It is replaced, as is one that takes no more requests (GOAWAY, no stream id
// left), which first finishes what it has begun; RECONNECTS_MAX times in all.
class Pump {
  public:
    struct Target {
        std::string host, port;
        uint32_t connections;
        uint32_t window_bytes;
    };

    int64_t spun_ns = 0; // CPU time spent awake and idle
    size_t in_flight = 0;
    uint32_t reconnects = 0;
    std::set<std::string> faults;

    // `calls` must outlive the pump. Throws what `connected_socket` throws.
    Pump(Target target, const Calls &calls) : target_(std::move(target)), calls_(calls), buffer_(READ_BYTES, '\0') {
        prctl(PR_SET_TIMERSLACK, 1);
        for (uint32_t i = 0; i < target_.connections; i++) connect();
        flush();
    }
    Pump(const Pump &) = delete;
    ~Pump() {
        links_.clear();
        close(epoll_);
    }

    // Hand over one request; a status at once only when it was refused here. Nothing leaves before `flush`.
    std::optional<int16_t> submit(uint32_t tag) {
        if (links_.empty()) return UNAVAILABLE;
        if (in_flight >= IN_FLIGHT_MAX) return UNSENT;
        in_flight++;
        if (roomy_.empty()) waiting_.push_back(tag);
        else place(tag);
        return std::nullopt;
    }

    // Write what the wires hold, one call to the kernel for each link.
    void flush() {
        for (Link *link : dirty_) {
            link->dirty = false;
            if (!link->blocked) write(*link);
        }
        dirty_.clear();
    }

    // Read whatever has arrived, without waiting, append what it answers, and write what that calls for.
    void turn(Answers &answers) {
        if (ready_ == 0) look();
        int count = std::exchange(ready_, 0);
        for (int i = 0; i < count; i++) {
            size_t first = answers.size();
            attend(*static_cast<Link *>(events_[i].data.ptr), events_[i].events, answers);
            for (size_t at = first; at < answers.size(); at++) answers[at].at_ns = read_ns_;
            in_flight -= answers.size() - first;
        }
        flush();
    }

    // Sleep until something arrives or the clock shows `until_ns`; the last `spin_ns` of it awake.
    void wait(int64_t until_ns, int64_t spin_ns) {
        int64_t left_ns = until_ns - spin_ns - monotonic_ns();
        if (left_ns > 0 && sleep(left_ns)) return;
        if (spin_ns == 0) return;
        int64_t began_ns = cpu_ns();
        while (monotonic_ns() < until_ns && !look()) continue;
        spun_ns += cpu_ns() - began_ns;
    }

  private:
    static constexpr size_t READ_BYTES = 256 * 1024, IN_FLIGHT_MAX = 20'000;
    static constexpr int EVENTS_MAX = 256;
    static constexpr uint32_t RECONNECTS_MAX = 100;

    void connect() {
        int descriptor = connected_socket(target_.host, target_.port);
        links_.push_back(std::make_unique<Link>(descriptor, calls_, target_.window_bytes));
        Link &link = *links_.back();
        watch(link, EPOLL_CTL_ADD);
        list(link);
        soil(link);
    }

    void watch(Link &link, int operation) {
        epoll_event event{};
        event.events = uint32_t(EPOLLIN) | (link.blocked ? uint32_t(EPOLLOUT) : 0);
        event.data.ptr = &link;
        epoll_ctl(epoll_, operation, link.descriptor, &event);
    }

    void list(Link &link) {
        link.listed = true;
        roomy_.push_back(&link);
    }

    void unlist(Link &link) {
        link.listed = false;
        roomy_.erase(std::find(roomy_.begin(), roomy_.end(), &link));
    }

    void soil(Link &link) {
        if (!link.dirty) dirty_.push_back(&link);
        link.dirty = true;
    }

    void place(uint32_t tag) {
        Link &link = *roomy_.front();
        roomy_.pop_front();
        link.listed = false;
        link.wire.submit(tag);
        soil(link);
        if (link.room()) list(link);
    }

    void place_waiting() {
        while (!waiting_.empty() && !roomy_.empty()) {
            place(waiting_.front());
            waiting_.pop_front();
        }
    }

    void write(Link &link) {
        std::string &outgoing = link.wire.outgoing;
        bool was_blocked = std::exchange(link.blocked, false);
        while (link.sent_bytes < outgoing.size() && !link.blocked) {
            ssize_t sent = send(link.descriptor, &outgoing[link.sent_bytes], outgoing.size() - link.sent_bytes, MSG_NOSIGNAL);
            if (sent >= 0) link.sent_bytes += size_t(sent);
            else if (errno == EAGAIN) link.blocked = true;
            else if (errno != EINTR) link.sent_bytes = outgoing.size(); // the read side will see the loss
        }
        if (!link.blocked || link.sent_bytes > Link::OUTGOING_BYTES_MAX)
            outgoing.erase(0, std::exchange(link.sent_bytes, 0));
        if (link.blocked != was_blocked) watch(link, EPOLL_CTL_MOD);
    }

    // What epoll told of a link, which may not outlive it.
    void attend(Link &link, uint32_t events, Answers &answers) {
        if (events & EPOLLOUT) write(link);
        if (events & ~EPOLLOUT) read(link, answers);
        else settle(link, answers);
    }

    void read(Link &link, Answers &answers) {
        ssize_t size = recv(link.descriptor, buffer_.data(), buffer_.size(), 0);
        read_ns_ = monotonic_ns();
        if (size > 0) receive(link, {buffer_.data(), size_t(size)}, answers);
        else if (size == 0) lose(link, "connection closed by the server", answers);
        else if (errno != EAGAIN && errno != EINTR) lose(link, "connection lost: " + std::string(strerror(errno)), answers);
    }

    void receive(Link &link, std::string_view data, Answers &answers) {
        try {
            link.wire.receive(data, answers);
        } catch (const WireError &error) {
            lose(link, error.what(), answers, PROTOCOL_BROKEN);
            return;
        }
        settle(link, answers);
    }

    // After anything that may have changed what a link holds or takes.
    void settle(Link &link, Answers &answers) {
        if (!link.wire.outgoing.empty()) soil(link);
        if (link.room() && !link.listed) list(link);
        else if (link.listed && !link.room()) unlist(link);
        if (link.wire.farewell && !link.replaced) replace(link, link.wire.farewell);
        if (link.wire.spent()) discard(link, answers);
        else place_waiting();
    }

    // Fail the requests of a link and discard it.
    void lose(Link &link, const std::string &why, Answers &answers, int16_t status = UNAVAILABLE) {
        link.wire.lose(answers, status);
        if (link.listed) unlist(link);
        if (!link.replaced) replace(link, why);
        discard(link, answers);
    }

    void replace(Link &link, const std::string &why) {
        link.replaced = true;
        faults.insert(why);
        if (++reconnects > RECONNECTS_MAX) return;
        try {
            connect();
        } catch (const std::exception &error) {
            faults.insert("no new connection: " + std::string(error.what()));
        }
    }

    void discard(Link &link, Answers &answers) {
        if (link.dirty) dirty_.erase(std::find(dirty_.begin(), dirty_.end(), &link));
        links_.erase(std::find_if(links_.begin(), links_.end(), [&](auto &one) { return one.get() == &link; }));
        place_waiting();
        if (!links_.empty()) return;
        for (uint32_t tag : waiting_) answers.push_back({tag, UNAVAILABLE, 0});
        waiting_.clear();
    }

    // Whether anything is ready now; it then waits for `turn`.
    bool look() {
        ready_ = std::max(0, epoll_wait(epoll_, events_, EVENTS_MAX, 0));
        return ready_ > 0;
    }

    // Whether something became ready in time. The timeout counts in nanoseconds; that of epoll_wait does in milliseconds.
    bool sleep(int64_t timeout_ns) {
        pollfd one{epoll_, POLLIN, 0};
        timespec timeout{timeout_ns / NS_PER_S, timeout_ns % NS_PER_S};
        return ppoll(&one, 1, &timeout, nullptr) > 0;
    }

    const Target target_;
    const Calls &calls_;
    const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
    std::vector<std::unique_ptr<Link>> links_;
    std::deque<Link *> roomy_;
    std::deque<uint32_t> waiting_;
    std::vector<Link *> dirty_;
    std::string buffer_;
    epoll_event events_[EVENTS_MAX];
    int64_t read_ns_ = monotonic_ns(); // when bytes were last read
    int ready_ = 0; // how many of `events_` are still to be looked at
};
