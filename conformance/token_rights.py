#!/usr/bin/python3
"""Tokens in MQTT 5's enhanced authentication, and what a token itself allows (its claim `acl`), over
every protocol, with the protocols' own clients and with packets by hand."""

import json
import os
import sys

import confluent_kafka
import pika
import pika.exceptions

from identity import HERE, bearer, codes_of, confluent_produce, mosquitto_pub, paho_client, polylog, run, tokens
from lib.broker import Broker
from lib.cases import Suite, equal, wait_until
from lib.mqtt_raw import (AUTH, CONNACK, CONNECT, PUBACK, PUBLISH, RawClient, connect_body, one_property,
                          properties, text, two)

suite = Suite("token_rights")


class TokenClient(RawClient):
    """A client of MQTT 5 whose token is in enhanced authentication (4.12)."""

    def __init__(self, broker, client_id, token, method="OAUTH2-JWT", props=b"", **more):
        self.method, self.token = method, token
        super().__init__(broker, client_id, level=5, connect=False)
        octets = props + b"".join(one_property(name, value) for name, value in (
            ("authentication_method", method), ("authentication_data", self.data(token))))
        self.send(CONNECT, connect_body(client_id, 5, props=octets, **more))
        self.first = self.next()

    def data(self, token):
        return token.encode() if self.method == "OAUTH2-JWT" else f"n,,\x01auth=Bearer {token}\x01\x01".encode()

    def renew(self, token):
        self.send(AUTH, b"\x19" + properties(authentication_method=self.method,
                                             authentication_data=self.data(token)))

    def publish(self, topic):
        """PUBACK's reason code; that nobody subscribes (0x10) is none."""
        self.send(0x32, text(topic) + b"\0\x09\0m")
        code = self.wait(PUBACK).code
        return 0 if code == 0x10 else code

    def unsubscribe_all(self, filters):
        self.send(0xA2, two(8) + b"\0" + b"".join(map(text, filters)))
        self.wait(0xB0)


@suite.case("MQTT 5: a token in AUTH, OAUTHBEARER and OAUTH2-JWT; a newer one in time keeps the connection")
def mqtt_auth_tokens():
    with tokens() as (broker, issuer):
        for method in ("OAUTH2-JWT", "OAUTHBEARER"):
            good = TokenClient(broker, "good", issuer.token("device-17"), method)
            equal((good.first.type, good.first.code, good.first.get("authentication_method"),
                   good.first.get("authentication_data")), (CONNACK, 0, method.encode(), None), "CONNACK")
            equal(good.publish("t/x"), 0, "the token's user")
            for what, token in (("expired", issuer.token("device-17", seconds=-5)), ("no token", "x")):
                refused = TokenClient(broker, "bad", token, method)
                equal((refused.first.type, refused.first.code), (CONNACK, 0x87), what)
            # What comes behind the AUTH is served while the token is looked at.
            client = TokenClient(broker, "c", issuer.token("device-17", seconds=4), method)
            left = TokenClient(broker, "left", issuer.token("device-17", seconds=4), method)
            client.renew(issuer.token("device-17"))
            equal(client.publish("t/x"), 0, "meanwhile")
            answer = client.wait(AUTH)
            equal((answer.code, answer.get("authentication_method")), (0, method.encode()), "AUTH")
            equal([one.code for one in left.until_closed()], [0x87], "without a newer one")
            equal(client.publish("t/x"), 0, "after the first token's end")
            client.renew(issuer.token("device-18"))
            equal([one.code for one in client.until_closed()], [0x87], "another user's token")
        with Broker() as plain:
            equal(TokenClient(plain, "c", "x").first.code, 0x8C, "where no tokens are taken")


@suite.case("MQTT 5: npm mqtt logs in by a token in its authentication data")
def npm_auth_token():
    with tokens() as (broker, issuer):
        for token, status in ((issuer.token("device-17"), 0), (issuer.token("device-17", aud="other"), 1)):
            done = run("node", os.path.join(HERE, "js", "mqtt_token.mjs"), str(broker.mqtt), token, "t/x")
            equal(done.returncode, status, f"npm mqtt: {done.stdout} {done.stderr}")


# ---------------------------------------------------------------- rules in tokens

@suite.case("MQTT: a token's acl claim, in both of EMQX's forms; a rule that denies wins")
def mqtt_claims():
    with tokens("auth.default=allow") as (broker, issuer):
        lists = {"pub": ["mine/${clientid}/#", "out"], "sub": ["in/#"], "all": ["both/%u"]}
        rules = [{"permission": "allow", "action": "publish", "topic": "mine/${clientid}/#"},
                 {"permission": "allow", "action": "all", "topic": "both/${username}"},
                 {"permission": "allow", "action": "publish", "topic": "eq out"},
                 {"permission": "deny", "action": "publish", "topic": "mine/d/secret"},
                 {"permission": "allow", "action": "subscribe", "topic": "in/#"}]
        for claim in (lists, rules):
            client = TokenClient(broker, "d", issuer.token("device-17", acl=claim))
            equal(client.first.code, 0, "CONNACK")
            expected = {"mine/d/a": 0, "mine/e/a": 0x87, "out": 0, "out/a": 0x87, "in/a": 0x87,
                        "both/device-17": 0, "both/device-18": 0x87, "t/x": 0, "elsewhere": 0x87,
                        "mine/d/secret": 0 if claim is lists else 0x87}
            equal({topic: client.publish(topic) for topic in expected}, expected, "PUBACKs")
            granted = {"in/#": 1, "in/x": 1, "both/device-17": 1, "mine/d/a": 0x87, "elsewhere/#": 0x87, "t/#": 1}
            for filter_, code in granted.items():
                equal(client.subscribe(filter_), code, f"SUBACK of {filter_}")
            # A wider filter brings what the claim lets it have.
            equal(client.subscribe("#"), 1, "SUBACK of #")
            client.unsubscribe_all(("in/#", "in/x", "both/device-17", "t/#"))
            for topic in ("elsewhere", "in/now"):
                mosquitto_pub(broker, "mqtt", topic, "-u", "root", "-P", "root-secret")
            equal(client.wait(PUBLISH).topic, b"in/now", "the first message")
            client.close()
        polylog(broker, "acl", "create", "deny", "device-17", "write", "out")
        client = TokenClient(broker, "d", issuer.token("device-17", acl=lists))
        equal(client.publish("out"), 0x87, "denied by a rule")
        # A newer token's claim counts from then on.
        client.renew(issuer.token("device-17", acl={"pub": ["elsewhere"]}))
        equal(client.wait(AUTH).code, 0, "AUTH")
        equal(client.publish("elsewhere"), 0, "the newer claim")
        equal(client.publish("mine/d/a"), 0x87, "the older one")
        for claim in ({"pub": ["a/${other}"]}, {"pubs": []}, ["x"], "x", {"pub": ["a/#/b"]},
                      [{"permission": "allow", "action": "all", "topic": "x", "qos": [1]}]):
            equal(codes_of(broker, issuer.token("device-17", acl=claim)), 134, f"refused: {claim}")


@suite.case("a token's claim holds for wills and delayed publishes, over kill -9 too; the newest token's")
def claims_later():
    for default in ("allow", "deny"):
        with tokens(f"auth.default={default}") as (broker, issuer):
            claim = {"pub": ["may/#"]}
            reader = paho_client(broker, "root-secret", client_id="reader", user="root")
            reader.seen = []
            reader.on_message = lambda client, data, message: client.seen.append(message.topic)
            reader.subscribe("#", 1)

            def lasting(name):
                return {"clean": False, "props": b"\x11\0\0\x02\x58",
                        "will": {"topic": f"{name}/will", "payload": "gone", "delay": 0, "retain": False}}

            for name in ("may", "not"):
                body = connect_body(name, 5, username="u", password=issuer.token("device-17", acl=claim),
                                    **lasting(name))
                client = RawClient(broker, name, level=5, connect=False)
                client.send(CONNECT, body)
                equal(client.next().code, 0, "CONNACK")
            held = []  # lost by the broker's end and not before
            for name, first, second in (("narrowed", {"pub": ["narrowed/#"]}, claim),
                                        ("widened", claim, {"pub": ["widened/#"]})):
                held.append(TokenClient(broker, name, issuer.token("device-17", acl=first), **lasting(name)))
                held[-1].renew(issuer.token("device-17", acl=second))
                equal(held[-1].wait(AUTH).code, 0, "AUTH")
            client = TokenClient(broker, "d", issuer.token("device-17", acl=claim))
            equal(client.publish("$delayed/4/may/later"), 0, "PUBACK")
            equal(client.publish("$delayed/4/not/later"), 0x87, "PUBACK")
            reader.loop_stop()
            broker.restart()
            reader = paho_client(broker, "root-secret", client_id="reader2", user="root")
            seen = []
            reader.on_message = lambda client, data, message: seen.append(message.topic)
            reader.subscribe("may/#", 1)
            reader.subscribe("not/#", 1)
            wait_until(lambda: "may/later" in seen, 20, f"what was delayed: {seen}")
            stored = polylog(broker, "topic", "list", "--json")
            topics = {one["name"]: one["records"] for one in json.loads(stored)["topics"]}
            equal({name: topics.get(name, 0) for name in ("may", "not", "narrowed", "widened")},
                  {"may": 2, "not": 0, "narrowed": 0, "widened": 1}, f"records, by default {default}")
            reader.loop_stop()


@suite.case("Kafka and AMQP: a token's acl claim, with confluent-kafka and pika")
def other_claims():
    with tokens("auth.default=allow") as (broker, issuer):
        claim = {"pub": ["orders/#"], "sub": ["events/#"]}
        settings = bearer(broker, lambda: issuer.token("device-17", acl=claim))
        equal(confluent_produce(settings, "orders"), None, "the topic as a whole")
        refused = confluent_produce(settings, "events")
        denied = confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED
        assert refused is not None and refused.code() == denied, refused
        connection = pika.BlockingConnection(pika.ConnectionParameters(
            "127.0.0.1", broker.amqp, credentials=pika.PlainCredentials("", issuer.token("device-17", acl=claim))))
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("amq.topic", "orders.7", b"m")
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, "amq.topic", "events.#")
        for wrong in (lambda: channel.basic_publish("amq.topic", "events.7", b"m"),
                      lambda: channel.queue_bind(queue, "amq.topic", "orders.#")):
            try:
                wrong()
                raise AssertionError("beyond the claim")
            except pika.exceptions.ChannelClosedByBroker as error:
                equal(error.reply_code, 403, "refusal")
            channel = connection.channel()
            channel.confirm_delivery()
        connection.close()


if __name__ == "__main__":
    sys.exit(suite.run())
