// Who sends when, and what became of it: the loops of the generator and, at the end, what Python calls by ctypes.
//
// The twin of `benchmarks.load.loops`. `benchmarks.load.native.engine` hands the order over and takes the samples.
#include "pump.hpp"

#include <cstdio>

namespace {

// One request; instants on the monotonic clock.
struct Sample {
    int64_t due_ns, sent_ns, done_ns;
    int16_t status;
};

// What the generator itself has used up to an instant; `spun_ns` is the part of `cpu_ns` that was awake and idle.
struct Usage {
    int64_t at_ns, cpu_ns, spun_ns;
};

struct Plan {
    int64_t start_ns, begin_ns, end_ns; // of the run, and of its measured part
    int64_t drain_ns, spin_ns;
    const int64_t *due_ns; // open loop: when each request is due, ascending
    size_t due_count;
    uint32_t callers; // closed loop; 0 for an open one
};

struct Report {
    Usage begin, end; // of the measured part
    size_t samples;
    uint32_t reconnects;
};

class Loop {
  public:
    Loop(Pump &pump, int64_t spin_ns) : pump_(pump), spin_ns_(spin_ns) {}

    // In a deque, whose growth moves nothing: a vector would stop for milliseconds to copy itself.
    std::deque<Sample> samples;

    Report run(const Plan &plan) {
        for (size_t i = 0; i < plan.due_count; i++) samples.push_back(unsent(plan.due_ns[i]));
        tend(plan.start_ns);
        Report report{};
        if (plan.callers) {
            call(plan.begin_ns, plan.callers);
            report.begin = usage();
            call(plan.end_ns, 0);
        } else {
            size_t first = size_t(std::lower_bound(plan.due_ns, plan.due_ns + plan.due_count, plan.begin_ns) - plan.due_ns);
            offer(0, first);
            report.begin = usage();
            offer(first, samples.size());
        }
        report.end = usage();
        drain(monotonic_ns() + plan.drain_ns);
        seal();
        report.samples = samples.size();
        report.reconnects = pump_.reconnects;
        return report;
    }

  private:
    static constexpr size_t SENDS_PER_TURN = 64;

    static Sample unsent(int64_t due_ns) { return {due_ns, due_ns, 0, UNANSWERED}; }

    // Open loop: send the requests [first, last) when each is due, and take answers meanwhile.
    void offer(size_t first, size_t last) {
        size_t tag = first;
        while (tag < last) {
            tag = send_due(tag, std::min(last, tag + SENDS_PER_TURN));
            if (turn() == 0 && tag < last) pump_.wait(samples[tag].due_ns, spin_ns_);
        }
    }

    // Send what is due, at most up to `last`; the first tag not sent.
    size_t send_due(size_t first, size_t last) {
        int64_t now_ns = monotonic_ns();
        size_t tag = first;
        for (; tag < last && samples[tag].due_ns <= now_ns; tag++) submit(tag, now_ns);
        if (tag == first) return tag;
        pump_.flush();
        int64_t sent_ns = monotonic_ns();
        for (size_t sent = first; sent < tag; sent++) samples[sent].sent_ns = sent_ns;
        return tag;
    }

    // Closed loop: start `callers` more requests, then one upon each answer, until `until_ns`. The next send is due with
    // any answer, so it is awake throughout, or never: waking up takes tens of microseconds.
    void call(int64_t until_ns, size_t callers) {
        for (size_t i = 0; i < callers; i++) call_again();
        pump_.flush();
        while (monotonic_ns() < until_ns) {
            size_t answered = turn();
            for (size_t i = 0; i < answered; i++) call_again();
            pump_.flush();
            if (answered == 0) pump_.wait(until_ns, spin_ns_ ? until_ns : 0);
        }
    }

    void call_again() {
        int64_t now_ns = monotonic_ns();
        samples.push_back(unsent(now_ns));
        submit(samples.size() - 1, now_ns);
    }

    void submit(size_t tag, int64_t now_ns) {
        std::optional<int16_t> refused = pump_.submit(uint32_t(tag));
        if (refused) record({uint32_t(tag), *refused, now_ns});
    }

    // Take answers until none is missing or the clock shows `until_ns`.
    void drain(int64_t until_ns) {
        while (pump_.in_flight && monotonic_ns() < until_ns)
            if (turn() == 0) pump_.wait(until_ns, 0);
    }

    // Tend the connections until the clock shows `until_ns`; no request is in flight yet.
    void tend(int64_t until_ns) {
        while (monotonic_ns() < until_ns) {
            turn();
            pump_.wait(until_ns, 0);
        }
    }

    // Note the answers that have come; how many there were.
    size_t turn() {
        answers_.clear();
        pump_.turn(answers_);
        for (const Answer &answer : answers_) record(answer);
        return answers_.size();
    }

    void record(const Answer &answer) {
        samples[answer.tag].done_ns = answer.at_ns;
        samples[answer.tag].status = answer.status;
    }

    // What is still unanswered counts as ended now.
    void seal() {
        int64_t now_ns = monotonic_ns();
        for (Sample &sample : samples)
            if (sample.status == UNANSWERED) sample.done_ns = now_ns;
    }

    Usage usage() const { return {monotonic_ns(), cpu_ns(), pump_.spun_ns}; }

    Pump &pump_;
    const int64_t spin_ns_;
    Answers answers_;
};

// Where to and what. `frame_ends` says where in `frames` each body ends.
struct Order {
    const char *host, *port;
    const char *block;
    size_t block_bytes;
    const char *frames;
    const size_t *frame_ends;
    size_t frame_count;
    uint32_t connections, window_bytes;
};

std::vector<std::string_view> bodies_of(const Order &order) {
    std::vector<std::string_view> bodies;
    size_t begin = 0;
    for (size_t i = 0; i < order.frame_count; begin = order.frame_ends[i++])
        bodies.emplace_back(order.frames + begin, order.frame_ends[i] - begin);
    return bodies;
}

} // namespace

// Connections that stand, and after the run its samples.
struct Generator {
    explicit Generator(const Order &order)
        : calls({order.block, order.block_bytes}, bodies_of(order)),
          pump({order.host, order.port, order.connections, order.window_bytes}, calls) {}

    const Calls calls;
    Pump pump;
    std::deque<Sample> samples;
};

extern "C" {

// Connect. On failure null, with a text and the errno (0 where there is none). The order's bytes must stay as they are.
Generator *generator_open(const Order *order, char *why, size_t why_bytes, int *error_number) {
    try {
        return new Generator(*order);
    } catch (const std::system_error &error) {
        *error_number = error.code().value();
        snprintf(why, why_bytes, "%s", error.what());
    } catch (const std::exception &error) {
        *error_number = 0;
        snprintf(why, why_bytes, "%s", error.what());
    }
    return nullptr;
}

void generator_run(Generator *generator, const Plan *plan, Report *report) {
    Loop loop(generator->pump, plan->spin_ns);
    *report = loop.run(*plan);
    generator->samples.swap(loop.samples);
}

// Copy the samples into columns of `Report::samples` rows.
void generator_samples(const Generator *generator, int64_t *due_ns, int64_t *sent_ns, int64_t *done_ns, int16_t *status) {
    size_t row = 0;
    for (const Sample &sample : generator->samples) {
        due_ns[row] = sample.due_ns;
        sent_ns[row] = sample.sent_ns;
        done_ns[row] = sample.done_ns;
        status[row++] = sample.status;
    }
}

// What went wrong with connections, one a line, cut at `bytes`.
void generator_faults(const Generator *generator, char *text, size_t bytes) {
    std::string lines;
    for (const std::string &fault : generator->pump.faults) lines += (lines.empty() ? "" : "\n") + fault;
    snprintf(text, bytes, "%s", lines.c_str());
}

void generator_close(Generator *generator) { delete generator; }
}
