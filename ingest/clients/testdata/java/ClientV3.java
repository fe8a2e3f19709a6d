import org.eclipse.paho.client.mqttv3.IMqttActionListener;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** An MQTT 3.1 and 3.1.1 client made with paho's org.eclipse.paho.client.mqttv3. */
final class ClientV3 {
	private static final class Arrivals implements MqttCallback {
		@Override
		public void messageArrived(String topic, MqttMessage m) {
			Wire.message(topic, m.getPayload(), m.getQos(), m.isRetained(), null);
		}

		@Override
		public void connectionLost(Throwable why) {
			Wire.fail("error", why);
		}

		@Override
		public void deliveryComplete(IMqttDeliveryToken token) {}
	}

	private static final class Published implements IMqttActionListener {
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
		MqttConnectOptions options = new MqttConnectOptions();
		options.setMqttVersion(o.version);
		options.setCleanSession(o.clean);
		options.setMaxInflight(1000);
		if (o.secure()) options.setSocketFactory(o.sockets());
		if (!o.user.isEmpty()) {
			options.setUserName(o.user);
			options.setPassword(o.password.toCharArray());
		}
		if (o.will != null) options.setWill(o.will.topic, o.will.bytes(), o.will.qos, o.will.retain);
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
					Wire.subscribed(token.getGrantedQos()[0]);
				}
				case "publish" -> client.publish(c.topic, c.bytes(), c.qos, c.retain, null, new Published());
				case "disconnect" -> {
					client.disconnect().waitForCompletion();
					System.exit(0);
				}
			}
		}
		System.exit(0);
	}
}
