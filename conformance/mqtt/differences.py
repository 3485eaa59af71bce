"""Where mosquitto does otherwise, by case, and which statements no case shows."""

CHOICE = "both: the specification leaves it open"

# Title, or title and version -> what mosquitto 2.0.11 does, which of us is right, and why.
DIFFERENCES = {
    "a second connection of a client identifier ends the first (5.0)": {
        "mosquitto": "closes the first one without a word", "right": "Polylog",
        "why": "3.1.4-3 asks for DISCONNECT 0x8E"},
    "DISCONNECT with reserved bits ends the connection as malformed, and the will goes out (5.0)": {
        "mosquitto": "closes without a word", "right": "Polylog",
        "why": "3.14.1-1 asks for DISCONNECT 0x81"},
    "a DISCONNECT with a reason code that it hasn't is a protocol error; the will goes out": {
        "mosquitto": "closes without a word", "right": "both",
        "why": "3.14.2-1 binds the sender, 4.13.1 only wants the connection closed; we say why"},
    "a will waits for its delay, or the session's end if that is earlier": {
        "mosquitto": "loses the will of a session that ends with its connection, if it has a delay",
        "right": "Polylog", "why": "3.1.2-8: the will is published when the session ends"},
    "QoS 2: the same identifier again before PUBREL gets PUBREC and isn't delivered again": {
        "mosquitto": "closes the connection at the repeat", "right": "Polylog",
        "why": "4.3.3-2 of 3.1.1 and 4.3.3-10 of 5.0: it must acknowledge any repeat with PUBREC"},
    "DUP at QoS 0 ends the connection": {
        "mosquitto": "takes the message", "right": "both",
        "why": "3.3.1-2 binds the sender; for the receiver it is a packet that can't be, which we refuse"},
    "PUBACK, PUBREC and PUBCOMP with flags end the connection": {
        "mosquitto": "doesn't look at them", "right": "Polylog",
        "why": "2.2.2-2 of 3.1.1 and 2.1.3 of 5.0: invalid flags make a packet malformed"},
    "PINGREQ with flags ends the connection": {
        "mosquitto": "answers with PINGRESP", "right": "Polylog",
        "why": "2.2.2-2 of 3.1.1 and 2.1.3 of 5.0: invalid flags make a packet malformed"},
    "acknowledgements with a reason code that they haven't are protocol errors": {
        "mosquitto": "takes some of them", "right": "Polylog",
        "why": "3.4.2-1 to 3.7.2-1 name the codes that there are, 4.13.1 what follows from others"},
    "what has been sent doesn't expire: it comes again after its time": {
        "mosquitto": "drops the message", "right": "Polylog",
        "why": "4.3.3-7: a QoS 2 message that has been sent doesn't expire; the client would take the next "
               "message under that identifier for this one"},
    "what had been received when it expired is released nevertheless": {
        "mosquitto": "sends no PUBREL", "right": "Polylog", "why": "4.3.3-7 and 4.3.3-5"},
    "a filter that is refused leaves the others of its SUBSCRIBE alone": {
        "mosquitto": "closes the connection at a filter that breaks 4.7.1", "right": CHOICE,
        "why": "3.8.4 lets the server say so in SUBACK, 4.13 lets it close; so a client with one bad filter "
               "keeps its other subscriptions here"},
    "overlapping subscriptions: the highest QoS is respected (3.1.1)": {
        "mosquitto": "delivers at QoS 1 what was published and subscribed to at QoS 2", "right": "Polylog",
        "why": "3.3.5-1: the highest QoS of all that match"},
    "a subscription identifier in a client's PUBLISH, or of 0, or twice, is a protocol error": {
        "mosquitto": "takes a PUBLISH with one", "right": "Polylog",
        "why": "3.3.4-6: it is a protocol error, which ends the connection (4.13.1-1)"},
    "names that are no shares' are refused": {
        "mosquitto": "grants some of them, such as `$share/g`", "right": "Polylog",
        "why": "4.8.2-1 and 4.8.2-2: such a filter can't be"},
    "No Local on a shared subscription is a protocol error": {
        "mosquitto": "grants it", "right": "Polylog", "why": "3.8.3-4"},
    "a response topic with a wildcard is a protocol error": {
        "mosquitto": "passes it on", "right": "Polylog", "why": "3.3.2-14"},
    "properties that PUBLISH hasn't, unknown ones, and some twice, end the connection": {
        "mosquitto": "takes some of them", "right": "Polylog",
        "why": "2.2.2.2 and 3.3.2.3: malformed, or a protocol error"},
    "a client that goes beyond the broker's Receive Maximum is cut off with 0x93": {
        "mosquitto": "closes without a word", "right": "Polylog",
        "why": "3.3.4: the server uses DISCONNECT 0x93"},
    "the limit counts to the octet": {
        "mosquitto": "sends a packet that is an octet or more too large", "right": "Polylog",
        "why": "3.1.2-24; a packet's size has its header in it (3.1.2.11.4)"},
    "a text frame ends the connection": {
        "mosquitto": "takes its octets for MQTT", "right": "Polylog", "why": "6.0.0-1"},
}

# (version, number) -> why there is nothing to see.
NOT_SHOWN = {}
