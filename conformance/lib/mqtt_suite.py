"""What the suites of MQTT have in common: both versions, and mosquitto in our place (BROKER=mosquitto)."""

import os

import paho.mqtt.client as paho

from .cases import Suite

REFERENCE = os.environ.get("BROKER") == "mosquitto"
if REFERENCE:
    from .mosquitto import Mosquitto as Broker
else:
    from .broker import Broker

VERSIONS = {"3.1.1": paho.MQTTv311, "5.0": paho.MQTTv5}


class MqttSuite(Suite):
    def for_versions(self, title):
        """A case that is run with each version."""

        def register(function):
            for name, version in VERSIONS.items():
                self.add(f"{title} ({name})", lambda version=version: function(version))
            return function

        return register

    def ours(self, title):
        """What there is nothing to compare with in mosquitto."""
        return self.case(title) if not REFERENCE else lambda function: function


def differs(here, mosquitto, why):
    """What is expected, and what the reference does instead."""
    assert why
    return mosquitto if REFERENCE else here


__all__ = ["Broker", "MqttSuite", "REFERENCE", "VERSIONS", "differs"]
