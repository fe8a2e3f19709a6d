package rival

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATS runs a nats-server in this process, without a port, and publishes to a
// stream in its file store that syncs every message. The store has no API of its
// own, and the server stores one message after another: a front would not help.
func NATS(ctx context.Context, dir string) (*Store, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "bench", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: true, NoLog: true, NoSigs: true,
	})
	if err != nil {
		return nil, err
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		return nil, errors.New("nats-server does not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "queue", Subjects: []string{"queue"}, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, err
	}
	return &Store{
		Name: "nats-server file store", Groups: byNobody,
		Append: func(value []byte) error {
			_, err := js.Publish(ctx, "queue", value)
			return err
		},
		Close: func() error {
			nc.Close()
			s.Shutdown()
			s.WaitForShutdown()
			return nil
		},
	}, nil
}
