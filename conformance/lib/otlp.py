"""OpenTelemetry's MetricsData (metrics.proto, version 1), as far as Kafka's clients write it, by Google's protobuf."""

from google.protobuf import descriptor_pb2, descriptor_pool
try:
    from google.protobuf.message_factory import GetMessageClass
except ImportError:  # before protobuf 4.22
    from google.protobuf.message_factory import MessageFactory
    GetMessageClass = MessageFactory().GetPrototype

F = descriptor_pb2.FieldDescriptorProto
PACKAGE = "polylog.otlp"
MESSAGES = {
    "AnyValue": [("string_value", 1, F.TYPE_STRING)],
    "KeyValue": [("key", 1, F.TYPE_STRING), ("value", 2, "AnyValue")],
    "NumberDataPoint": [("attributes", 7, ["KeyValue"]), ("time_unix_nano", 3, F.TYPE_FIXED64),
                        ("as_double", 4, F.TYPE_DOUBLE), ("as_int", 6, F.TYPE_SFIXED64)],
    "Gauge": [("data_points", 1, ["NumberDataPoint"])],
    "Sum": [("data_points", 1, ["NumberDataPoint"]), ("aggregation_temporality", 2, F.TYPE_INT32),
            ("is_monotonic", 3, F.TYPE_BOOL)],
    "Metric": [("name", 1, F.TYPE_STRING), ("gauge", 5, "Gauge"), ("sum", 7, "Sum")],
    "ScopeMetrics": [("metrics", 2, ["Metric"])],
    "Resource": [("attributes", 1, ["KeyValue"])],
    "ResourceMetrics": [("resource", 1, "Resource"), ("scope_metrics", 2, ["ScopeMetrics"])],
    "MetricsData": [("resource_metrics", 1, ["ResourceMetrics"])],
}
DELTA = 1


def _build():
    file = descriptor_pb2.FileDescriptorProto(name="otlp.proto", package=PACKAGE, syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            repeated, kind = isinstance(kind, list), kind[0] if isinstance(kind, list) else kind
            added = message.field.add(name=field, number=number,
                                      label=F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL)
            if isinstance(kind, str):
                added.type, added.type_name = F.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file) if hasattr(pool, "Add") else pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.MetricsData"))


MetricsData = _build()


def metrics(gauges=(), sums=(), resource=()):
    """Octets of gauges and delta sums: (name, value, {attribute: text})."""
    data = MetricsData()
    one = data.resource_metrics.add()
    for key, value in dict(resource).items():
        one.resource.attributes.add(key=key).value.string_value = value
    scope = one.scope_metrics.add()
    for kind, told in (("gauge", gauges), ("sum", sums)):
        for name, value, attributes in told:
            holder = getattr(scope.metrics.add(name=name), kind)
            point = holder.data_points.add(time_unix_nano=1)
            if kind == "sum":
                holder.aggregation_temporality, holder.is_monotonic = DELTA, True
                point.as_int = value
            else:
                point.as_double = value
            for key, text in attributes.items():
                point.attributes.add(key=key).value.string_value = text
    return data.SerializeToString()
