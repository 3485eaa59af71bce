"""Where Polylog differs from RabbitMQ 3.10 on purpose: scenario -> label -> what either shows, and
why. A difference that is listed and no longer there fails, as does one that isn't listed."""

NOT_BUILT = 'not built yet: it is refused, so that nobody counts on it'
ADDRESS = "amq.topic's routing keys are addresses of topics, and an empty one is one empty level"
CRASH = ('RabbitMQ crashes over it and ends without a word, or with 541; here the refusal says '
         'what was wrong')
TOLD = 'RabbitMQ ends the connection without a word after 3 s; here it is told why, at once'
EARLIER = 'refused as soon as it is known, not once all of it has come'
PASSWORD = 'there are no users and passwords yet: every login from this machine will do'
CAPS = "what isn't built isn't announced"
DEEP = 'a limit of 32 tables in each other: hostile input must not cost stack'
KIND = ('RabbitMQ tells a name that is known to its runtime from one that is not; that has no '
        'meaning here')
UTF8 = "the text of RabbitMQ's decoder; here it is an argument that can't be decoded"
HEADER = 'of the versions before 0-9-1 only 0-9 is served'
TYPE = ("refused at the frame's first octets, before its payload has come; the text shows none "
        'of it')

DIFFERENCES = {
    "the headers CC and BCC add routing keys; BCC isn't shown": {
        'CC and BCC': {
            'rabbitmq': 'fine',
            'polylog': ('connection 540 NOT_IMPLEMENTED - the headers CC and BCC are not supported '
                        '(60, 40)'),
            'why': NOT_BUILT},
        'r.c1': {'rabbitmq': 'x', 'polylog': '(not seen)', 'why': NOT_BUILT},
        'r.c1: key and headers': {'rabbitmq': ['r.c1', ['CC', 'other']], 'polylog': '(not seen)', 'why': NOT_BUILT},
        'r.c2': {'rabbitmq': 'x', 'polylog': '(not seen)', 'why': NOT_BUILT},
        'r.c2: key and headers': {'rabbitmq': ['r.c1', ['CC', 'other']], 'polylog': '(not seen)', 'why': NOT_BUILT},
        'r.c3': {'rabbitmq': 'x', 'polylog': '(not seen)', 'why': NOT_BUILT},
        'r.c3: key and headers': {'rabbitmq': ['r.c1', ['CC', 'other']], 'polylog': '(not seen)', 'why': NOT_BUILT},
        'CC that is no array': {
            'rabbitmq': ('channel 406 PRECONDITION_FAILED - invalid message: '
                         '{unacceptable_type_in_header,"CC",longstr} (60, 40)'),
            'polylog': '(not seen)',
            'why': NOT_BUILT},
    },
    'amq.topic: the same keys and patterns': {
        "'*'": {
            'rabbitmq': ["'a'", "'b'", "'c'", "'#'", "'kitchen'"],
            'polylog': ["''", "'a'", "'b'", "'c'", "'#'", "'kitchen'"],
            'why': ADDRESS},
        "'*.#'": {
            'rabbitmq': ["'a'", "'b'", "'a.b'", "'a.c'", "'a.b.c'", "'a..c'", "'a.'", "'.a'",
                         "'.'", "'a.b.c.d'", "'b.c'", "'c'", "'a.b.b.c'", "'A.b'", "'a.*'",
                         "'#'", "'kitchen'", "'a/b.c'"],
            'polylog': ["''", "'a'", "'b'", "'a.b'", "'a.c'", "'a.b.c'", "'a..c'", "'a.'",
                        "'.a'", "'.'", "'a.b.c.d'", "'b.c'", "'c'", "'a.b.b.c'", "'A.b'",
                        "'a.*'", "'#'", "'kitchen'", "'a/b.c'"],
            'why': ADDRESS},
        "'#.*'": {
            'rabbitmq': ["'a'", "'b'", "'a.b'", "'a.c'", "'a.b.c'", "'a..c'", "'a.'", "'.a'",
                         "'.'", "'a.b.c.d'", "'b.c'", "'c'", "'a.b.b.c'", "'A.b'", "'a.*'",
                         "'#'", "'kitchen'", "'a/b.c'"],
            'polylog': ["''", "'a'", "'b'", "'a.b'", "'a.c'", "'a.b.c'", "'a..c'", "'a.'",
                        "'.a'", "'.'", "'a.b.c.d'", "'b.c'", "'c'", "'a.b.b.c'", "'A.b'",
                        "'a.*'", "'#'", "'kitchen'", "'a/b.c'"],
            'why': ADDRESS},
    },
    'queue arguments that RabbitMQ refuses are refused, in its words': {
        'quorum {}': {
            'rabbitmq': ("channel 406 PRECONDITION_FAILED - invalid property 'non-durable' for "
                         "queue 'q.invalid' in vhost '/' (50, 10)"),
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-queue-type' with value "
                        "'quorum' for queue 'q.invalid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        "quorum {'durable': True, 'exclusive': True}": {
            'rabbitmq': ("channel 406 PRECONDITION_FAILED - invalid property 'exclusive-owner' "
                         "for queue 'q.invalid' in vhost '/' (50, 10)"),
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-queue-type' with value "
                        "'quorum' for queue 'q.invalid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        "quorum {'durable': True, 'auto_delete': True}": {
            'rabbitmq': ("channel 406 PRECONDITION_FAILED - invalid property 'auto-delete' for "
                         "queue 'q.invalid' in vhost '/' (50, 10)"),
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-queue-type' with value "
                        "'quorum' for queue 'q.invalid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        "quorum {'durable': True, 'arguments': {'x-max-priority': 5}}": {
            'rabbitmq': ("channel 406 PRECONDITION_FAILED - invalid arg 'x-max-priority' for "
                         "queue 'q.invalid' in vhost '/' of queue type rabbit_quorum_queue "
                         '(50, 10)'),
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-queue-type' with value "
                        "'quorum' for queue 'q.invalid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
    },
    'queue arguments that RabbitMQ takes are taken, or refused rather than passed over': {
        'x-expires': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-expires' for queue 'q.valid' "
                        "in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-message-ttl': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-message-ttl' for queue "
                        "'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-max-length': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-max-length' for queue "
                        "'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-max-length-bytes': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-max-length-bytes' for queue "
                        "'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-max-priority': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-max-priority' for queue "
                        "'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-overflow': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-overflow' for queue 'q.valid' "
                        "in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-dead-letter-exchange': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-dead-letter-exchange' for "
                        "queue 'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-single-active-consumer': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-single-active-consumer' for "
                        "queue 'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
        'x-queue-type': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-queue-type' with value "
                        "'quorum' for queue 'q.valid' in vhost '/' (50, 10)"),
            'why': NOT_BUILT},
    },
    'refused: exchanges and queues that are missing, reserved or of an unknown kind': {
        'exchange of the type queue': {
            'rabbitmq': "connection 503 COMMAND_INVALID - invalid exchange type 'queue' (40, 10)",
            'polylog': "connection 503 COMMAND_INVALID - unknown exchange type 'queue' (40, 10)",
            'why': KIND},
    },
    "refused: a user's header of another user, a body that is too large, bad expirations": {
        'body that claims 2^40 octets': {
            'rabbitmq': ['goes on'],
            'polylog': [('1: Channel.Close 406 PRECONDITION_FAILED - message size '
                         '1099511627776 is larger than configured max size 16777216 (60, 40)')],
            'why': EARLIER},
    },
    'refused: virtual hosts, passwords, mechanisms; what the broker offers in tune and start': {
        'capabilities': {
            'rabbitmq': {'publisher_confirms': True, 'exchange_exchange_bindings': True,
                         'basic.nack': True, 'consumer_cancel_notify': True,
                         'connection.blocked': True, 'consumer_priorities': True,
                         'authentication_failure_close': True, 'per_consumer_qos': True,
                         'direct_reply_to': True},
            'polylog': {'publisher_confirms': True, 'exchange_exchange_bindings': True,
                        'basic.nack': True, 'consumer_cancel_notify': True,
                        'connection.blocked': True, 'authentication_failure_close': True,
                        'per_consumer_qos': True},
            'why': CAPS},
        "mechanism that isn't there": {
            'rabbitmq': 'the end',
            'polylog': ('0: Connection.Close 503 COMMAND_INVALID - unknown authentication '
                        "mechanism 'ODD' (10, 11)"),
            'why': TOLD},
    },
    'refused: a wrong password, told to clients that understand it': {
        'told': {
            'rabbitmq': ('0: Connection.Close 403 ACCESS_REFUSED - Login was refused using '
                         'authentication mechanism PLAIN. For details see the broker logfile. '
                         '(0, 0)'),
            'polylog': "0: Connection.OpenOk known_hosts=''",
            'why': PASSWORD},
        'not told': {
            'rabbitmq': 'the end',
            'polylog': "0: Connection.OpenOk known_hosts=''",
            'why': PASSWORD},
    },
    "a protocol header that the broker doesn't speak is answered with the one it does": {
        '0-8': {
            'rabbitmq': 'connection.start',
            'polylog': 'AMQP\x00\x00\t\x01',
            'why': HEADER},
        '0-8, then': {
            'rabbitmq': '(not seen)',
            'polylog': '',
            'why': HEADER},
    },
    'consumers with x-priority go first while they can take more': {
        'x-priority': {
            'rabbitmq': 'fine',
            'polylog': ("connection 540 NOT_IMPLEMENTED - arg 'x-priority' for consumer of "
                        "queue 'd.first' in vhost '/' (60, 20)"),
            'why': NOT_BUILT},
        'the high one': {
            'rabbitmq': [[False, '0'], [False, '1']],
            'polylog': '(not seen)',
            'why': NOT_BUILT},
        'the low one': {
            'rabbitmq': [[False, '2'], [False, '3'], [False, '4']],
            'polylog': '(not seen)',
            'why': NOT_BUILT},
    },
    'transactions and confirms: not both on a channel, no commit without select': {
        'confirm.select after tx.select': {
            'rabbitmq': ['1: Tx.SelectOk',
                         '1: Channel.Close 406 PRECONDITION_FAILED - cannot switch from tx to confirm mode (85, 10)'],
            'polylog': [('0: Connection.Close 540 NOT_IMPLEMENTED - transactions are not '
                         'supported (90, 10)')],
            'why': NOT_BUILT},
        'tx.select after confirm.select': {
            'rabbitmq': [('1: Channel.Close 406 PRECONDITION_FAILED - cannot switch from '
                          'confirm to tx mode (90, 10)')],
            'polylog': [('0: Connection.Close 540 NOT_IMPLEMENTED - transactions are not '
                         'supported (90, 10)')],
            'why': NOT_BUILT},
        'tx.commit without tx.select': {
            'rabbitmq': [('1: Channel.Close 406 PRECONDITION_FAILED - channel is not '
                          'transactional (90, 20)')],
            'polylog': [('0: Connection.Close 540 NOT_IMPLEMENTED - transactions are not '
                         'supported (90, 20)')],
            'why': NOT_BUILT},
        'tx.rollback without tx.select': {
            'rabbitmq': [('1: Channel.Close 406 PRECONDITION_FAILED - channel is not '
                          'transactional (90, 30)')],
            'polylog': [('0: Connection.Close 540 NOT_IMPLEMENTED - transactions are not '
                         'supported (90, 30)')],
            'why': NOT_BUILT},
    },
    'transactions: publishes and acknowledgements at commit, none after rollback': {
        'tx.select': {
            'rabbitmq': 'fine',
            'polylog': 'connection 540 NOT_IMPLEMENTED - transactions are not supported (90, 10)',
            'why': NOT_BUILT},
        'before commit': {
            'rabbitmq': [0, 0],
            'polylog': '(not seen)',
            'why': NOT_BUILT},
        'after commit': {
            'rabbitmq': [2, 0],
            'polylog': '(not seen)',
            'why': NOT_BUILT},
        'after rollback': {
            'rabbitmq': [2, 0],
            'polylog': '(not seen)',
            'why': NOT_BUILT},
        'acknowledged': {
            'rabbitmq': ['1', ['2']],
            'polylog': '(not seen)',
            'why': NOT_BUILT},
    },
    'content headers octet for octet: field types by hand, order, doubles, odd flags': {
        'an unknown field type': {
            'rabbitmq': ['0: Connection.Close 541 INTERNAL_ERROR (0, 0)'],
            'polylog': ['0: Connection.Close 502 SYNTAX_ERROR - malformed header table (60, 40)'],
            'why': CRASH},
        'a table longer than its header': {
            'rabbitmq': ['0: Connection.Close 541 INTERNAL_ERROR (0, 0)'],
            'polylog': [('0: Connection.Close 502 SYNTAX_ERROR - malformed content properties '
                         '(60, 40)')],
            'why': CRASH},
        'a text longer than its table': {
            'rabbitmq': ['0: Connection.Close 541 INTERNAL_ERROR (0, 0)'],
            'polylog': ['0: Connection.Close 502 SYNTAX_ERROR - malformed header table (60, 40)'],
            'why': CRASH},
        'properties that end early': {
            'rabbitmq': ['0: Connection.Close 541 INTERNAL_ERROR (0, 0)'],
            'polylog': [('0: Connection.Close 502 SYNTAX_ERROR - malformed content properties '
                         '(60, 40)')],
            'why': CRASH},
        'octets behind the properties': {
            'rabbitmq': ['0: Connection.Close 541 INTERNAL_ERROR (0, 0)'],
            'polylog': [('0: Connection.Close 502 SYNTAX_ERROR - malformed content properties '
                         '(60, 40)')],
            'why': CRASH},
        'flags that say there are more': {
            'rabbitmq': ['0: Connection.Close 541 INTERNAL_ERROR (0, 0)'],
            'polylog': [('0: Connection.Close 502 SYNTAX_ERROR - malformed content properties '
                         '(60, 40)')],
            'why': CRASH},
        'a hundred tables deep': {
            'rabbitmq': 'octet for octet',
            'polylog': '0: Connection.Close 502 SYNTAX_ERROR - malformed header table (60, 40)',
            'why': DEEP},
    },
    'bad frames: the end octet, the size, the type, frames on the wrong channel': {
        'an unknown type': {
            'rabbitmq': [('0: Connection.Close 501 FRAME_ERROR - type 9, all octets = '
                          '<<"abc">>: unknown_frame (0, 0)')],
            'polylog': [('0: Connection.Close 501 FRAME_ERROR - type 9, all octets = <<>>: '
                         'unknown_frame (0, 0)')],
            'why': TYPE},
    },
    "methods out of place: unknown ones, on channels that aren't open, the server's own": {
        'unknown method': {
            'rabbitmq': ['the end'],
            'polylog': ['0: Connection.Close 503 COMMAND_INVALID - unimplemented method (50, 99)'],
            'why': CRASH},
        'unknown class': {
            'rabbitmq': ['the end'],
            'polylog': ['0: Connection.Close 503 COMMAND_INVALID - unimplemented method (999, 10)'],
            'why': CRASH},
        'unknown method on channel 0': {
            'rabbitmq': ['the end'],
            'polylog': ['0: Connection.Close 503 COMMAND_INVALID - unimplemented method (10, 99)'],
            'why': CRASH},
        'a name that is not UTF-8': {
            'rabbitmq': ['0: Connection.Close 501 FRAME_ERROR - Malformed UTF-8 in shortstr (0, 0)'],
            'polylog': [('0: Connection.Close 501 FRAME_ERROR - cannot decode '
                         '<<0,0,2,255,254,0>> (50, 30)')],
            'why': UTF8},
        'a bad table': {
            'rabbitmq': ['the end'],
            'polylog': [('0: Connection.Close 502 SYNTAX_ERROR - malformed arguments: field '
                         'table malformed or nested too deep (50, 10)')],
            'why': CRASH},
    },
    'contents out of place: none where one belongs, of another class, longer than announced': {
        'more than announced': {
            'rabbitmq': ['goes on'],
            'polylog': [('0: Connection.Close 505 UNEXPECTED_FRAME - content body is longer '
                         'than its header said (60, 40)')],
            'why': EARLIER},
    },
    'handshakes out of turn: cut off or refused, nothing else notices': {
        'channels without limit': {
            'rabbitmq': ['the end'],
            'polylog': [('0: Connection.Close 530 NOT_ALLOWED - negotiated channel_max = 0 (no '
                         'limit) is higher than the maximum allowed value (2047) (10, 31)')],
            'why': TOLD},
        'frames larger than offered': {
            'rabbitmq': ['the end'],
            'polylog': [('0: Connection.Close 530 NOT_ALLOWED - negotiated frame_max = 1048576 '
                         'is higher than the maximum allowed value (131072) (10, 31)')],
            'why': TOLD},
        'frames smaller than 4,096': {
            'rabbitmq': ['the end'],
            'polylog': [('0: Connection.Close 530 NOT_ALLOWED - negotiated frame_max = 100 is '
                         'lower than the minimum allowed value (4096) (10, 31)')],
            'why': TOLD},
    },
    'streams: refused: no prefetch, no acknowledgements, get, purge, nack, odd offsets': {
        'offset foo': {
            'rabbitmq': 'connection 541 INTERNAL_ERROR (0, 0)',
            'polylog': ("channel 406 PRECONDITION_FAILED - invalid arg 'x-stream-offset' for "
                        "queue 's.refused' in vhost '/': "
                        '{invalid_stream_offset_arg,{longstr,<<"foo">>}} (60, 20)'),
            'why': CRASH},
        'offset true': {
            'rabbitmq': 'connection 541 INTERNAL_ERROR (0, 0)',
            'polylog': ("channel 406 PRECONDITION_FAILED - invalid arg 'x-stream-offset' for "
                        "queue 's.refused' in vhost '/': "
                        '{invalid_stream_offset_arg,{bool,true}} (60, 20)'),
            'why': CRASH},
    },
}
