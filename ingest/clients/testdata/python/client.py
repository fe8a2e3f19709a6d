"""An MQTT client made with paho-mqtt. script_test.go says what it reads and prints."""

import base64
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

lock = threading.Lock()


def say(event, **more):
    with lock:
        print(json.dumps({"event": event, **more}), flush=True)


o = json.loads(sys.stdin.readline())
v5 = o["version"] == 5
connected = threading.Event()


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        say("refused", why=str(reason))
    else:
        say("connected", present=flags.session_present)
    connected.set()


def on_subscribe(client, userdata, mid, reasons, properties):
    say("subscribed", qos=reasons[0].value)


def on_publish(client, userdata, mid, reason, properties):
    if reason.is_failure:
        say("error", why=str(reason))
    else:
        say("published")


def on_message(client, userdata, m):
    user = getattr(m.properties, "UserProperty", []) if v5 else []
    say("message", topic=m.topic, payload=base64.b64encode(m.payload).decode(), qos=m.qos, retain=m.retain, user=user)


c = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2,
    client_id=o["id"],
    clean_session=None if v5 else o["clean"],
    protocol={3: mqtt.MQTTv31, 4: mqtt.MQTTv311, 5: mqtt.MQTTv5}[o["version"]],
    transport="websockets" if o["transport"] in ("ws", "wss") else "tcp",
    reconnect_on_failure=False,
)
c.on_connect, c.on_subscribe, c.on_publish, c.on_message = on_connect, on_subscribe, on_publish, on_message
if o["transport"] in ("tls", "wss"):
    c.tls_set(ca_certs=o["ca"])
if o["user"]:
    c.username_pw_set(o["user"], o["password"])
if will := o.get("will"):
    c.will_set(will["topic"], base64.b64decode(will["payload"]), will["qos"], will["retain"])
if v5:
    p = Properties(PacketTypes.CONNECT)
    p.SessionExpiryInterval = o["expiry"]
    c.connect(o["host"], o["port"], 60, clean_start=o["clean"], properties=p)
else:
    c.connect(o["host"], o["port"], 60)
c.loop_start()
connected.wait()

for line in sys.stdin:
    cmd = json.loads(line)
    if cmd["do"] == "subscribe":
        c.subscribe(cmd["topic"], cmd["qos"])
    elif cmd["do"] == "publish":
        p = None
        if v5:
            p = Properties(PacketTypes.PUBLISH)
            for pair in cmd.get("user", []):
                p.UserProperty = tuple(pair)
        c.publish(cmd["topic"], base64.b64decode(cmd["payload"] or ""), cmd["qos"], cmd["retain"], properties=p)
    elif cmd["do"] == "disconnect":
        c.disconnect()
        break
c.loop_stop()
