package clients

import (
	"crypto/tls"
	"os"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// goPaho3 is an MQTT 3.1 and 3.1.1 client made with paho.mqtt.golang.
func goPaho3(w *wire, o *options) error {
	scheme := map[string]string{tcp: "tcp", secure: "ssl", webSocket: "ws", secureWeb: "wss"}[o.Transport]
	opt := mqtt.NewClientOptions().AddBroker(o.url(scheme)).
		SetProtocolVersion(uint(o.Version)).SetClientID(o.ID).SetCleanSession(o.Clean).
		SetUsername(o.User).SetPassword(o.Password).
		SetAutoReconnect(false).SetConnectRetry(false)
	if o.withTLS() {
		roots, err := o.roots()
		if err != nil {
			return err
		}
		opt.SetTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	}
	if o.Will != nil {
		opt.SetBinaryWill(o.Will.Topic, o.Will.Payload, o.Will.QoS, o.Will.Retain)
	}
	opt.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
		w.message(message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained()})
	})
	opt.SetConnectionLostHandler(func(_ mqtt.Client, err error) { w.fail("error", err) })
	c := mqtt.NewClient(opt)
	connecting := c.Connect().(*mqtt.ConnectToken)
	connecting.Wait()
	if err := connecting.Error(); err != nil {
		w.fail("refused", err)
		return err
	}
	w.say(&event{Event: "connected", Present: connecting.SessionPresent()})
	for cmd := range w.commands {
		switch cmd.Do {
		case "subscribe":
			t := c.Subscribe(cmd.Topic, cmd.QoS, nil).(*mqtt.SubscribeToken)
			if t.Wait(); t.Error() != nil {
				return t.Error()
			}
			w.say(&event{Event: "subscribed", message: message{QoS: t.Result()[cmd.Topic]}})
		case "publish":
			t := c.Publish(cmd.Topic, cmd.QoS, cmd.Retain, cmd.Payload)
			go func() {
				<-t.Done()
				w.done("published", t.Error())
			}()
		case "disconnect":
			c.Disconnect(250) // milliseconds it may take
			os.Exit(0)
		}
	}
	return nil
}
