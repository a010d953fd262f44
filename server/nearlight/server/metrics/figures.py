"""The figures that are counted while they happen.

They are of the process, as is usual with Prometheus: two servers in one process count into the same figures.
Buckets are fixed, so that a histogram never grows. Units are seconds, bytes and counts.
"""

from prometheus_client import Counter, Gauge, Histogram

# From a tokenised text to a call that waited through an overload.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
RECALLS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.999)  # of ten hits; what is above the last is all of them
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

CALLS = Counter(
    "nearlight_calls", "Calls that have ended, by gRPC status.", ["method", "status"], registry=None
)
CALL_SECONDS = Histogram(
    "nearlight_call_seconds",
    "From a call's arrival to its answer; of a stream, to its end.",
    ["method"],
    buckets=SECONDS,
    registry=None,
)
CALLS_IN_FLIGHT = Gauge("nearlight_calls_in_flight", "Calls that have not ended, streams too.", registry=None)
REQUEST_BYTES = Counter(
    "nearlight_request_bytes", "Bytes of requests and of messages of streams.", ["method"], registry=None
)
REJECTIONS = Counter(
    "nearlight_rejections",
    "Calls, batches of streams and queries of a batch that were not answered with a result, by reason.",
    ["reason"],
    registry=None,
)
INPUT_FAILURES = Counter(
    "nearlight_input_failures",
    "Inputs that failed while their neighbours were answered, by reason.",
    ["reason"],
    registry=None,
)
STAGE_SECONDS = Histogram(
    "nearlight_stage_seconds",
    "Time of a call's slowest input at a stage: decode, queue, infer; reply is writing the answer's bytes.",
    ["stage", "towers"],
    buckets=SECONDS,
    registry=None,
)
BATCH_ROWS = Histogram(
    "nearlight_batch_rows", "Inputs of one run of the engine.", ["tower"], buckets=ROWS, registry=None
)
ENGINE_BUSY_SECONDS = Counter(
    "nearlight_engine_busy_seconds",
    "Time inside the engines of a tower; its rate over their number is the share of time they are busy.",
    ["tower"],
    registry=None,
)
TEXT_TOKENS = Counter("nearlight_text_tokens", "Tokens of texts, without padding.", registry=None)
PADDING_TOKENS = Counter(
    "nearlight_padding_tokens",
    "Tokens added so that texts share a batch; over the sum of both it is the padding waste.",
    registry=None,
)
CACHE_LOOKUPS = Counter(
    "nearlight_cache_lookups",
    "Looks into a cache; `hit` is yes or no.",
    ["cache", "hit"],
    registry=None,
)

RECALL = Histogram(
    "nearlight_recall",
    "Recall@10 of live queries that used an index, a share of which is searched again exactly; by what the "
    "query was made of, and by the share of the points that its filter left.",
    ["modality", "selectivity"],
    buckets=RECALLS,
    registry=None,
)

ALL = (
    CALLS,
    CALL_SECONDS,
    CALLS_IN_FLIGHT,
    REQUEST_BYTES,
    REJECTIONS,
    INPUT_FAILURES,
    STAGE_SECONDS,
    BATCH_ROWS,
    ENGINE_BUSY_SECONDS,
    TEXT_TOKENS,
    PADDING_TOKENS,
    CACHE_LOOKUPS,
    RECALL,
)
