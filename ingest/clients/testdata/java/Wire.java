import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.BufferedReader;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Base64;
import java.util.List;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;
import javax.net.ssl.TrustManagerFactory;

/** What the two clients read and print. script_test.go says what it means. */
final class Wire {
	static class Message {
		String topic;
		String payload; // base64
		int qos;
		boolean retain;
		List<List<String>> user;

		byte[] bytes() {
			return payload == null ? new byte[0] : Base64.getDecoder().decode(payload);
		}
	}

	static final class Options {
		String transport, host, ca, id, user, password;
		int port, version;
		long expiry;
		boolean clean;
		Message will;

		String url() {
			String scheme = transport.equals("tls") ? "ssl" : transport;
			return scheme + "://" + host + ":" + port + (transport.startsWith("ws") ? "/mqtt" : "");
		}

		boolean secure() {
			return transport.equals("tls") || transport.equals("wss");
		}

		/**
		 * Sockets that trust the authority of the file ca and no other. A first handshake has been
		 * made: on a busy machine a new Java takes longer to load its TLS than the server waits for
		 * a CONNECT.
		 */
		SSLSocketFactory sockets() throws Exception {
			KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
			trusted.load(null);
			try (FileInputStream in = new FileInputStream(ca)) {
				trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
			}
			TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
			trust.init(trusted);
			SSLContext context = SSLContext.getInstance("TLS");
			context.init(null, trust.getTrustManagers(), null);
			SSLSocketFactory sockets = context.getSocketFactory();
			try (SSLSocket first = (SSLSocket) sockets.createSocket(host, port)) {
				first.startHandshake();
			} catch (IOException late) {
				// What counts is the connection to come.
			}
			return sockets;
		}
	}

	static final class Command extends Message {
		@com.google.gson.annotations.SerializedName("do")
		String what;
	}

	static final class Event extends Message {
		String event, why;
		boolean present;

		Event(String event) {
			this.event = event;
		}
	}

	private static final Gson gson = new GsonBuilder().disableHtmlEscaping().create();
	private static final PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
	private static final BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));

	static Options options() throws IOException {
		return gson.fromJson(in.readLine(), Options.class);
	}

	/** The next command, or null at the end. */
	static Command next() throws IOException {
		String line = in.readLine();
		return line == null ? null : gson.fromJson(line, Command.class);
	}

	static synchronized void say(Event e) {
		out.println(gson.toJson(e));
	}

	static void say(String event) {
		say(new Event(event));
	}

	static void fail(String event, Throwable why) {
		Event e = new Event(event);
		e.why = String.valueOf(why);
		say(e);
	}

	static void connected(boolean present) {
		Event e = new Event("connected");
		e.present = present;
		say(e);
	}

	static void subscribed(int qos) {
		Event e = new Event("subscribed");
		e.qos = qos;
		say(e);
	}

	static void message(String topic, byte[] payload, int qos, boolean retain, List<List<String>> user) {
		Event e = new Event("message");
		e.topic = topic;
		e.payload = Base64.getEncoder().encodeToString(payload);
		e.qos = qos;
		e.retain = retain;
		e.user = user;
		say(e);
	}
}
