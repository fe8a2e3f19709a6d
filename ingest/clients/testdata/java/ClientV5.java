import java.util.ArrayList;
import java.util.List;
import org.eclipse.paho.mqttv5.client.IMqttToken;
import org.eclipse.paho.mqttv5.client.MqttActionListener;
import org.eclipse.paho.mqttv5.client.MqttAsyncClient;
import org.eclipse.paho.mqttv5.client.MqttCallback;
import org.eclipse.paho.mqttv5.client.MqttConnectionOptions;
import org.eclipse.paho.mqttv5.client.MqttDisconnectResponse;
import org.eclipse.paho.mqttv5.client.persist.MemoryPersistence;
import org.eclipse.paho.mqttv5.common.MqttException;
import org.eclipse.paho.mqttv5.common.MqttMessage;
import org.eclipse.paho.mqttv5.common.packet.MqttProperties;
import org.eclipse.paho.mqttv5.common.packet.UserProperty;

/** An MQTT 5 client made with paho's org.eclipse.paho.mqttv5.client. */
final class ClientV5 {
	private static final class Arrivals implements MqttCallback {
		@Override
		public void messageArrived(String topic, MqttMessage m) {
			List<List<String>> user = new ArrayList<>();
			for (UserProperty p : m.getProperties().getUserProperties()) user.add(List.of(p.getKey(), p.getValue()));
			Wire.message(topic, m.getPayload(), m.getQos(), m.isRetained(), user);
		}

		@Override
		public void disconnected(MqttDisconnectResponse why) {
			if (why.getException() != null) Wire.fail("error", why.getException());
		}

		@Override
		public void mqttErrorOccurred(MqttException why) {
			Wire.fail("error", why);
		}

		@Override
		public void deliveryComplete(IMqttToken token) {}

		@Override
		public void connectComplete(boolean reconnect, String url) {}

		@Override
		public void authPacketArrived(int reason, MqttProperties properties) {}
	}

	private static final class Published implements MqttActionListener {
		@Override
		public void onSuccess(IMqttToken token) {
			Wire.say("published");
		}

		@Override
		public void onFailure(IMqttToken token, Throwable why) {
			Wire.fail("error", why);
		}
	}

	public static void main(String[] args) throws Exception {
		Wire.Options o = Wire.options();
		MqttConnectionOptions options = new MqttConnectionOptions();
		options.setCleanStart(o.clean);
		options.setSessionExpiryInterval(o.expiry);
		if (o.secure()) options.setSocketFactory(o.sockets());
		if (!o.user.isEmpty()) {
			options.setUserName(o.user);
			options.setPassword(o.password.getBytes("UTF-8"));
		}
		if (o.will != null) options.setWill(o.will.topic, new MqttMessage(o.will.bytes(), o.will.qos, o.will.retain, null));
		MqttAsyncClient client = new MqttAsyncClient(o.url(), o.id, new MemoryPersistence());
		client.setCallback(new Arrivals());
		try {
			IMqttToken token = client.connect(options);
			token.waitForCompletion();
			Wire.connected(token.getSessionPresent());
		} catch (MqttException why) {
			Wire.fail("refused", why);
			System.exit(1);
		}
		for (Wire.Command c = Wire.next(); c != null; c = Wire.next()) {
			switch (c.what) {
				case "subscribe" -> {
					IMqttToken token = client.subscribe(c.topic, c.qos);
					token.waitForCompletion();
					Wire.subscribed(token.getReasonCodes()[0]);
				}
				case "publish" -> client.publish(c.topic, message(c), null, new Published());
				case "disconnect" -> {
					client.disconnect().waitForCompletion();
					System.exit(0);
				}
			}
		}
		System.exit(0);
	}

	private static MqttMessage message(Wire.Command c) {
		MqttProperties properties = new MqttProperties();
		if (c.user != null) {
			List<UserProperty> user = new ArrayList<>();
			for (List<String> pair : c.user) user.add(new UserProperty(pair.get(0), pair.get(1)));
			properties.setUserProperties(user);
		}
		return new MqttMessage(c.bytes(), c.qos, c.retain, properties);
	}
}
