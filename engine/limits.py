"""Every bound in one place, with its unit in its name. Defaults: a spec may lower or raise those it exposes."""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES_MAX: Final = 64 << 20
"""Largest request or response on the wire, after decompression."""

STRING_BYTES_MAX: Final = 8 << 20
"""Largest single element of a BYTES tensor."""

TENSOR_DIMENSIONS_MAX: Final = 32
TENSOR_ELEMENTS_MAX: Final = 1 << 40
"""A shape whose product passes this is refused before anything is allocated."""

INPUTS_MAX: Final = 1024
"""Most inputs, and most requested outputs, of one request."""

NAME_CHARS_MAX: Final = 256
ID_CHARS_MAX: Final = 4096
ECHO_CHARS_MAX: Final = 120
"""Most characters of a caller's text repeated in an error message."""

ERROR_BYTES_MAX: Final = 1_600
"""Longest error message told to a caller. gRPC puts it into headers twice, a byte as three characters and in base64, and
clients refuse more than 8 KiB of headers."""

QUEUE_REQUESTS_MAX: Final = 4096
QUEUE_BYTES_MAX: Final = 512 << 20
BATCH_ROWS_MAX: Final = 64
BATCH_BYTES_MAX: Final = 64 << 20

BATCH_CLASS_SHARE: Final = 0.1
"""Of the rows computed while both priority classes wait, at least so many are of the batch class."""

BATCH_CLASS_QUEUE_SHARE: Final = 0.5
"""Of a queue's bounds, requests of the batch class may fill at most so much: they come in floods and wait for long, and whoever
waits for an answer must still find room."""

ESTIMATE_TRUST: Final = 5
"""An idle worker that has computed nothing for so many times as long as its estimate says a request takes does not refuse it
for that estimate: nobody else waits, and an estimate that refuses everything would never be put right."""

FLUSH_BATCHES_MAX: Final = 4
"""Batches one caller's thread computes in a row before the rest goes to the worker's own thread."""

INLINE_COMPUTE_US_MAX: Final = 1_000
INLINE_ALONE_US_MAX: Final = 5_000  # where there is one core: no other thread computes it sooner
"""A batch predicted to take less runs on the caller's thread: two thread hops cost 50 to 100 us under the GIL."""

HELPED_COMPUTE_US_MIN: Final = 50
"""While one batch runs on the caller's thread, another thread gets the next if that takes so long: less is done sooner."""

LAYOUTS_MAX: Final = 256
"""Kinds of request (names, datatypes, shapes) that are remembered, after which remembering starts anew."""

STREAM_REQUESTS_MAX: Final = 64
"""Requests of one bidirectional stream that may be in flight at once."""

STREAM_PARTS_MAX: Final = 16
"""Responses of one decoupled request that may wait for a slow reader."""

WARMUP_BYTES_MAX: Final = 256 << 20
"""A batch bucket whose inputs would be larger is not warmed up."""

DRAIN_S_DEFAULT: Final = 20.0
LEAVE_S: Final = 0.2
"""A server that leaves callers to others gives them so long to go there before it looks whether calls are in flight."""
HTTP_HEADER_BYTES_MAX: Final = 64 << 10
"""Request line and headers of one HTTP request together."""

HTTP_CHUNKS_MAX: Final = 100_000
"""Pieces one chunked HTTP body may arrive in; a flood of one-byte chunks is refused."""

HTTP_IDLE_S_MAX: Final = 30.0
"""Longest silence while an HTTP request's head or body is arriving."""

HTTP_PIPELINE_MAX: Final = 1_000
"""Requests one HTTP connection may send ahead of their answers."""

HTTP_LINGER_S: Final = 2.0
"""How long a refused HTTP client may take to read why, while what it still sends is thrown away."""

GZIP_MEMBERS_MAX: Final = 1_000
"""Compressed members one HTTP body may consist of; in practice it is one."""

HTTP_KEEP_ALIVE_S: Final = 120
"""How long an idle HTTP connection stays open; longer than clients' pools keep theirs, so that they end it, not we."""

STREAMS_MAX: Final = 1024
"""Calls that one HTTP/2 connection may have open at once."""

STREAM_WINDOW_BYTES: Final = 4 << 20
CONNECTION_WINDOW_BYTES: Final = 64 << 20
"""What a client may send before any of it is taken, on one HTTP/2 stream and on all of a connection."""

FRAME_BYTES_MAX: Final = 1 << 20
"""Largest HTTP/2 frame a client may send: fewer frames carry a large tensor more cheaply."""

STREAM_QUEUE_BYTES_MAX: Final = 1 << 20
"""Bytes of a streamed answer that may wait for a slow reader."""

WIRE_BYTES_MAX: Final = 2 << 30
"""Bytes of all requests that have arrived or are arriving, and as many of all answers that wait to be written; a message or
an answer that would pass it is refused."""

TURN_EVENTS_MAX: Final = 256
"""Calls begun in one turn of the event loop; between turns sockets are read, so that who has left is not served."""

TURN_EVENTS_MIN: Final = 32
TURN_S: Final = 0.01
"""So many calls are begun in one turn, TURN_EVENTS_MIN at least, as take this long: what comes meanwhile is not read, and what
has been answered not written, before the turn ends."""

KEEPALIVE_S: Final = 60.0
"""After this silence an HTTP/2 client is pinged; it has HTTP_IDLE_S_MAX to answer."""

STUCK_S_MAX: Final = 300.0
"""How long an HTTP/2 client may take nothing of what waits for it."""

SWEEP_S: Final = 5.0
"""How often HTTP/2 connections are looked through for such."""

CONFIG_BYTES_MAX: Final = 1 << 20
SPEC_VALUES_MAX: Final = 250_000
"""Values of one spec; where an alias repeats some, they count again."""

REPOSITORY_MODELS_MAX: Final = 10_000

LOG_SEGMENT_BYTES: Final = 128 << 20
"""A local log begins a new file past this; what is truncated is whole files."""

LOG_BATCH_BYTES_MAX: Final = 64 << 20
"""Largest batch one append may carry, encoded."""

FEATURE_ENTITIES_MAX: Final = 10_000_000
"""Entities a feature view keeps by default; past it the longest unseen are forgotten."""

FEATURES_MAX: Final = 1024
LOOKUP_ROWS_MAX: Final = 100_000
"""Entities one lookup may ask for."""

LOOKUP_BATCH_ROWS_MAX: Final = 256
"""Entities that lookups of different requests ask for together."""

LOOKUP_INLINE_BYTES_MAX: Final = 24 << 10
"""A longer lookup (some 2,000 entities and more) leaves the transport's thread, which it would hold for a millisecond."""

GATHER_SOURCES_MAX: Final = 64
"""Collections and views that one gather takes columns of."""

GATHER_BATCH_ROWS_MAX: Final = 4096
"""Keys of different requests that one gather answers together."""

SLATE_CAPS_MAX: Final = 16
"""Kinds of which a slate may show only so many."""

PUSH_THREADS_MAX: Final = 32
"""Pushes that become durable together; each waits on a thread of its own."""

PUSHES_MAX: Final = 1024
"""Pushes that may wait for one; more are refused."""

FLIGHT_CALLS_MAX: Final = 256
"""Arrow Flight calls that may be open at once; each has a thread."""

PUSH_WAIT_S_MAX: Final = 60.0
PUSH_WAIT_S_DEFAULT: Final = 1.0
"""How long a push waits for the views that its caller wants to show it."""

SNAPSHOTS_KEPT_MAX: Final = 100
SNAPSHOT_RETRY_S: Final = 10.0
"""A snapshot that could not be written is tried again after so long."""

INTERPRETER_SWITCH_S_MAX: Final = 0.0005
"""No thread of a server keeps the interpreter for longer while others want it."""

FEATURE_READ_ROWS_MAX: Final = 1 << 16
"""Events a feature view takes of its log at once."""

FEATURE_RESTORE_S_MAX: Final = 10.0
"""How long the start of an engine waits for a view to catch up with its log; after that it serves without it, and the view
answers as unavailable until it has."""

FEATURE_SWAP_S_MAX: Final = 600.0
"""How long a changed view may take to catch up while its predecessor serves; after that the predecessor stays."""

FEATURE_RETRY_S_MIN: Final = 0.1
FEATURE_RETRY_S_MAX: Final = 5.0
"""A log that cannot be read is tried again after the first, then after twice as long each time, up to the second."""

SAMPLE_ROWS_MAX: Final = 100_000
"""Served rows a view may keep for the skew probe, in memory between two snapshots."""

DEAD_LETTERS_BYTES_MAX: Final = 64 << 20
"""A file of dead letters that passes this becomes the old one, and the old one before it goes."""

DEAD_LETTERS_WAITING_MAX: Final = 100_000
"""Dead letters that wait because they cannot be written; more are counted only."""

GRAPH_NODES_MAX: Final = 256
"""Nodes of one graph."""

GRAPH_DEPTH_MAX: Final = 16
"""Graphs that may call each other in one request."""

CACHED_ENTRIES_MAX: Final = 10_000
"""Answers that a node's fallback remembers by default; past it the longest unused go."""

RECORDS_WAITING_MAX: Final = 100_000
"""Rows of records and exposures that may wait for their log; past it they are counted as lost, or, where they are durable,
requests are refused."""

LEDGER_BYTES_MAX: Final = 4096
"""Longest ledger in a header: gRPC clients refuse more than 8 KiB of headers."""

MARKS_CHARS_MAX: Final = 1024
"""Longest list of marks in a header."""

TRACING_END_S_MAX: Final = 2.0
"""How long the end of a server waits for its last spans to be taken."""

EXPERIMENT_PLANNED_USERS: Final = 10_000
"""Of all variants together, at whom an experiment's sequential intervals are narrowest by default."""

SHADOWS_WAITING_MAX: Final = 64
"""Copies of requests that may wait for a shadow; more are left out, and counted."""

COLLECTION_POINTS_MAX: Final = 20_000_000
"""Points of one vector collection by default."""

SEGMENT_ROWS_GROWING: Final = 8_192
"""Rows of a vector collection that are scanned before they are sealed into a segment with an index: 0.4 ms at 384 dimensions."""

SEGMENT_ROWS_GROWING_MAX: Final = 1 << 20

COLLECTION_POINTS_CEILING: Final = 1 << 40
"""The most that a quota may allow."""

COLLECTIONS_MAX: Final = 1_000
"""Collections of one store; each has open files and a thread."""

COLLECTION_ALIASES_MAX: Final = 10_000
"""Of all collections of one store."""

COLLECTION_SNAPSHOTS_MAX: Final = 100
"""Kept of one collection."""

RECALL_WAITING_MAX: Final = 16
"""Searches that wait to be answered again, exactly; more are left out. Each keeps its view in memory."""

COLLECTION_NAME_CHARS_MAX: Final = 128
COLLECTION_NAMES_MAX: Final = 1_024
"""Dense vectors, sparse vectors and fields of one collection, of each."""

VECTOR_DIMENSIONS_MAX: Final = 65_536
SEARCH_K_MAX: Final = 10_000
"""Hits of one search, those left out by its offset among them."""

SEARCH_EFFORT_MIN: Final = 0.01
SEARCH_EFFORT_MAX: Final = 100.0
SEARCH_CANDIDATES_MAX: Final = 100_000
"""Points that one index finds for one search, to be scored exactly."""

SEARCH_ROWS_MAX: Final = 1_024
"""Queries of one request to a search that is served as a model."""

SEARCH_BATCH_ROWS_MAX: Final = 8
"""Queries of different requests that one thread answers one after the other: together they are no quicker."""

SEARCH_LEGS_MAX: Final = 16
SEARCH_EXAMPLES_MAX: Final = 1_000
"""Points that one search is to be like or unlike."""

SEARCH_TEXT_BYTES_MAX: Final = 64 << 10

FILTER_DEPTH_MAX: Final = 16
FILTER_CONDITIONS_MAX: Final = 1_024
FILTER_VALUES_MAX: Final = 10_000
"""Values that conditions of one filter compare with."""

PAYLOAD_BYTES_MAX: Final = 1 << 20
"""Of one point, as Arrow keeps it."""

FIELD_VALUES_MAX: Final = 65_536
"""Values of one array of one point's payload."""

VECTORS_OF_POINT_MAX: Final = 4_096
"""Vectors of one multi-vector: a page of text has some 500, a page as a picture some 1,000."""

SPARSE_VALUES_MAX: Final = 65_536
"""Indices of one sparse vector: twice the words of a language model."""

VECTOR_WRITE_THREADS_MAX: Final = 64
"""Writes to vector collections that become durable together; each waits on a thread of its own."""
VECTOR_CALLS_MAX: Final = 1_024
"""Long searches and writes that may wait for a thread; more are refused."""
SEARCH_BATCH_MAX: Final = 1_000
SEARCH_INLINE_HITS_MAX: Final = 100
SEARCH_INLINE_POINTS_MAX: Final = 300_000
"""A search for more hits, or among more points, leaves the transport's thread, which it would hold for a millisecond."""

TRITON_SERVERS_MAX: Final = 64
"""Servers that one model lives on."""

TRITON_STREAM_WINDOW_BYTES: Final = 8 << 20
TRITON_CONNECTION_WINDOW_BYTES: Final = 1 << 30
TRITON_FRAME_BYTES_MAX: Final = 256 << 10
TRITON_STREAMS_MAX: Final = 10_000
"""What a connection to a Triton server lets come unasked: of one call, of all calls, in one frame; and calls at once.
A frame is put together of what the socket gives: with those of 1 MiB, answers of some MiB took twice the time."""

TRITON_HEADER_BLOCKS_MAX: Final = 256
TRITON_READ_BYTES: Final = 1 << 20
"""Different header blocks of a connection that are remembered once read; and what is read from one at once."""

TRITON_TICK_S: Final = 0.002
TRITON_IDLE_S: Final = 0.1
"""The event loop looks at deadlines and hedges no more often; while calls that may be hedged come no further apart than the
second, it waits no longer than the next could be due: a timer for each call, or waking it for one, would cost more."""

TRITON_PROBE_S: Final = 0.5
TRITON_PROBE_S_MAX: Final = 2.0
TRITON_STATISTICS_S: Final = 5.0
"""Each server is asked so often whether the model is ready, and what it counts; one that is silent for the second is given up."""

TRITON_CONNECT_S_MAX: Final = 1.0
TRITON_RECONNECT_S: Final = 0.25
"""Between two tries to connect."""

TRITON_LOAD_S_MAX: Final = 5.0
TRITON_CLOSE_S_MAX: Final = 2.0
"""So long loading a model waits for the first of its servers, and unloading it for its connections to end."""

TRITON_ATTEMPTS_MAX: Final = 3
"""Of one request, hedges included."""

TRITON_CALL_S_MAX: Final = 60.0
"""The deadline of a call on whose answer a thread waits, such as a warm-up."""

TRITON_HEDGE_SHARE: Final = 0.1
TRITON_HEDGE_BURST: Final = 10
TRITON_RETRY_SHARE: Final = 0.2
TRITON_RETRY_BURST: Final = 1_000
"""So many of the calls to Triton servers may go to a second one because the first is slow, or because it failed; and at once."""

BATCH_READ_ROWS: Final = 1_024
"""Rows of one request of a batch run, and rows read of its input at once, by default."""

BATCH_READ_ROWS_MAX: Final = 1 << 16
BATCH_PART_ROWS_MAX: Final = 1 << 18
BATCH_PART_BYTES_MAX: Final = 64 << 20
BATCH_PART_S_MAX: Final = 10.0
"""A batch run makes answers durable once it has so many rows or bytes of them, or so long after the first: what a kill costs."""

BATCH_PACE_S_MAX: Final = 0.05
"""A batch run with a rate takes so many rows a request as the rate gives in this time: a slow trickle, never a burst."""

BATCH_CONCURRENCY_MAX: Final = 64
"""Requests of one batch run that may be under way."""

BATCH_REQUEST_S_MAX: Final = 600.0
"""The deadline of one request of a batch run, in place of the bounds made for callers who wait."""

BATCH_RETRY_S_MIN: Final = 0.1
BATCH_RETRY_S_MAX: Final = 5.0
BATCH_PATIENCE_S_MAX: Final = 300.0
"""A request of a batch run that is refused for now is sent again after the first, then twice as long each time up to the second;
after the third the run ends, to be resumed."""

BATCH_FILES_MAX: Final = 100_000
"""Files of one folder that a batch run reads."""

GENERATION_CALLS_MAX: Final = 1_024
"""Calls of one language model that may be under way, those that wait inside it among them."""

GROUNDING_PASSAGES_MAX: Final = 100
GROUNDING_CHARS_MAX: Final = 1_000_000
GROUNDING_QUERIES_MAX: Final = 8
"""Passages that one prompt shows, their characters, and more ways to search for one question."""

GENERATION_RESTART_S_MIN: Final = 1.0
GENERATION_RESTART_S_MAX: Final = 60.0
"""A language model that died is loaded anew at once; where that fails, or it dies again while it is young, after the
first of these, then twice as long each time, up to the second."""

GENERATION_YOUNG_S_MAX: Final = 60.0
GENERATION_WATCH_S: Final = 0.25
"""How often it is looked whether language models live."""

GENERATION_END_S_MAX: Final = 10.0
"""A language model that is not wanted any more may take so long to close."""

GENERATION_LOAD_S_DEFAULT: Final = 1_800.0
GENERATION_ADAPT_S_MAX: Final = 60.0
"""A language model not loaded by the first is given up; one that has not followed its spec by the second is loaded anew."""

UPSTREAM_ATTEMPTS_MAX: Final = 3
"""Times that one call to a language model elsewhere is tried, by default."""

UPSTREAM_ATTEMPTS_CEILING: Final = 20
UPSTREAM_TARGETS_MAX: Final = 64
"""Servers that one language model is asked of."""

UPSTREAM_BACKOFF_S_MIN: Final = 0.25
UPSTREAM_BACKOFF_S_MAX: Final = 4.0
UPSTREAM_RETRY_SHARE: Final = 0.2
"""Of all calls, so many may be tries again: servers that are down are not also flooded."""

UPSTREAM_RETRIES_SPARE: Final = 20
"""Tries again that may come at once, whatever their share."""

UPSTREAM_FAILURES_MAX: Final = 5
UPSTREAM_EJECT_S: Final = 5.0
UPSTREAM_EJECT_S_MAX: Final = 300.0
UPSTREAM_CONNECT_S_MAX: Final = 5.0
UPSTREAM_FIRST_BYTE_S_MAX: Final = 120.0
"""A long prompt, or an answer that is not streamed, takes long to begin."""

UPSTREAM_SILENCE_S_MAX: Final = 60.0
UPSTREAM_CONNECTIONS_MAX: Final = 1_000
"""Connections to one server; each call holds one while it lasts."""

UPSTREAM_OUTPUT_TOKENS_DEFAULT: Final = 4_096
GENERATION_EVENT_BYTES_MAX: Final = 8 << 20
"""Largest event of a stream from another server."""

UPSTREAM_ERROR_BYTES_MAX: Final = 64 << 10  # so much is read of another server's error
TENANTS_MAX: Final = 10_000
"""Tenants whose use of their quota is remembered at once."""

SECRET_BYTES_MAX: Final = 16 << 10
TOKEN_COMMAND_S_MAX: Final = 30.0
"""How long a command that prints a token may take."""

ENCODER_TOKENS_MAX: Final = 512  # tokens of one text: the positions that most encoders learnt
ENCODER_TOKENS_CEILING: Final = 1 << 17
ENCODER_TEXT_BYTES_MAX: Final = 1 << 20  # bytes of one text to encode: all of it is tokenised before it is cut
ENCODER_BATCH_TOKENS_MAX: Final = 4_096
ENCODER_TOKEN_BYTES: Final = 4
"""Bytes of English text a token: by it a batch of texts that wait is bounded before they are tokenised."""

RERANK_PAIRS_MAX: Final = 4_096  # pairs of one row of a reranker's request
ENCODER_TEXTS_MAX: Final = 4_096  # texts of one call for embeddings or scores
OPTIMIZE_ROWS_MAX: Final = 100_000  # read to calibrate a new version on, and to judge it by
INGEST_FILES_MAX: Final = 1_000_000
INGEST_LOOKUPS_MAX: Final = 256  # documents that are looked up together
INGEST_BYTES_MAX: Final = 64 << 20  # of their files
INGEST_POINTS_MAX: Final = 64  # passages that are embedded and written together
