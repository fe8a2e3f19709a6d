package clients

import (
	"context"
	"crypto/tls"
	"net/url"
	"os"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
)

// goPaho5 is an MQTT 5 client made with paho.golang and its autopaho.
func goPaho5(w *wire, o *options) error {
	cfg, err := configPaho5(w, o)
	if err != nil {
		return err
	}
	type outcome struct {
		ack *paho.Connack
		err error
	}
	connected := make(chan outcome, 1)
	cfg.OnConnectionUp = func(_ *autopaho.ConnectionManager, ack *paho.Connack) { connected <- outcome{ack: ack} }
	cfg.OnConnectError = func(err error) { connected <- outcome{err: err} }
	ctx := context.Background()
	c, err := autopaho.NewConnection(ctx, *cfg)
	if err != nil {
		return err
	}
	first := <-connected
	if first.err != nil {
		w.fail("refused", first.err)
		return first.err
	}
	w.say(&event{Event: "connected", Present: first.ack.SessionPresent})
	for cmd := range w.commands {
		switch cmd.Do {
		case "subscribe":
			ack, err := c.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: cmd.Topic, QoS: cmd.QoS}}})
			if err != nil {
				return err
			}
			w.say(&event{Event: "subscribed", message: message{QoS: ack.Reasons[0]}})
		case "publish":
			_, err := c.Publish(ctx, publishPaho5(&cmd.message)) // returns when it is acknowledged
			w.done("published", err)
		case "disconnect":
			if err := c.Disconnect(ctx); err != nil {
				return err
			}
			os.Exit(0)
		}
	}
	return nil
}

func configPaho5(w *wire, o *options) (*autopaho.ClientConfig, error) {
	scheme := map[string]string{tcp: "mqtt", secure: "tls", webSocket: "ws", secureWeb: "wss"}[o.Transport]
	u, err := url.Parse(o.url(scheme))
	if err != nil {
		return nil, err
	}
	cfg := &autopaho.ClientConfig{
		ServerUrls:                    []*url.URL{u},
		KeepAlive:                     60,
		CleanStartOnInitialConnection: o.Clean,
		SessionExpiryInterval:         o.Expiry,
		ConnectUsername:               o.User,
		ConnectPassword:               []byte(o.Password),
		ReconnectBackoff:              func(attempt int) time.Duration { return time.Duration(attempt) * time.Hour },
		ClientConfig: paho.ClientConfig{
			ClientID:      o.ID,
			OnClientError: func(err error) { w.fail("error", err) },
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
				m := message{Topic: p.Packet.Topic, Payload: p.Packet.Payload, QoS: p.Packet.QoS, Retain: p.Packet.Retain}
				for _, u := range p.Packet.Properties.User {
					m.User = append(m.User, [2]string{u.Key, u.Value})
				}
				w.message(m)
				return true, nil
			}},
		},
	}
	if o.withTLS() {
		roots, err := o.roots()
		if err != nil {
			return nil, err
		}
		cfg.TlsCfg = &tls.Config{RootCAs: roots, ServerName: o.Host, MinVersion: tls.VersionTLS12}
	}
	if will := o.Will; will != nil {
		cfg.WillMessage = &paho.WillMessage{Topic: will.Topic, Payload: will.Payload, QoS: will.QoS, Retain: will.Retain}
	}
	return cfg, nil
}

func publishPaho5(m *message) *paho.Publish {
	p := &paho.Publish{Topic: m.Topic, Payload: m.Payload, QoS: m.QoS, Retain: m.Retain, Properties: &paho.PublishProperties{}}
	for _, pair := range m.User {
		p.Properties.User.Add(pair[0], pair[1])
	}
	return p
}
