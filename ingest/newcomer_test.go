package ingest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary/ingest/gate"
)

// serverConfig is TLS with a certificate that nobody trusts.
func serverConfig(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{
		Certificates:           []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		SessionTicketsDisabled: true, // over a pipe without a buffer, both sides would write
	}
}

// secure makes a door do TLS, with one place at its gate.
func secure(t *testing.T) func(*Options) {
	t.Helper()
	config := serverConfig(t)
	return func(o *Options) { o.Gate, o.TLS = gate.New(1), config }
}

// pipeTLS connects to the door without a network; the client is yet to speak TLS.
func pipeTLS(d *Door) net.Conn {
	near, far := net.Pipe()
	go d.EstablishConnection(tls.Server(&newcomer{Conn: far}, d.opt.TLS))
	return near
}

// greet makes the handshake, says CONNECT, and sends on the answer; nil if there is
// none.
func greet(nc net.Conn) <-chan []byte {
	answer := make(chan []byte, 1)
	go func() {
		defer close(answer)
		c := tls.Client(nc, trusting)
		b := make([]byte, 4)
		if _, err := c.Write(connectPacket(dialled{id: "good"})); err != nil {
			return
		}
		if _, err := io.ReadFull(c, b); err == nil {
			answer <- b
		}
	}()
	return answer
}

var connack = []byte{0x20, 2, 0, 0} //nolint:gochecknoglobals // it does not change

var trusting = &tls.Config{InsecureSkipVerify: true} //nolint:gochecknoglobals // the client of a test

// A deaf connection is written to and not read from.
type deaf struct {
	net.Conn

	end <-chan struct{}
}

func (d deaf) Read([]byte) (int, error) {
	<-d.end
	return 0, net.ErrClosed
}

// S1: who stalls in a handshake, at whatever point, has no place while others wait
// for one, and ends with the deadline.
func TestStalledHandshakes(t *testing.T) {
	bubble(t, secure(t), func(t *testing.T, d *Door, _ *fakeLog) {
		start := time.Now()
		silent, half, mute := pipeTLS(d), pipeTLS(d), pipeTLS(d)
		if _, err := half.Write([]byte{0x16, 3, 1, 2, 0, 1}); err != nil {
			t.Fatal(err)
		}
		go func() { _ = tls.Client(deaf{mute, t.Context().Done()}, trusting).Handshake() }()
		synctest.Wait() // the answer to mute is being written
		good := pipeTLS(d)
		defer func() { _ = good.Close() }()
		if got := <-greet(good); !bytes.Equal(got, connack) || time.Since(start) > time.Second {
			t.Errorf("a client was answered % x after %v", got, time.Since(start))
		}
		for name, nc := range map[string]net.Conn{"silent": silent, "half": half} {
			_, err := nc.Read(make([]byte, 1))
			if took := time.Since(start); err == nil || took.Round(time.Second) != handshakes*d.opt.ConnectTimeout {
				t.Errorf("the %s one ended after %v: %v", name, took, err)
			}
		}
		synctest.Wait()
		if open := d.Stats().Connections; open != 1 {
			t.Errorf("%d connections are open", open)
		}
	})
}

// The time that a client waits for its turn does not count: it has as long as
// ever for what it is to say.
func TestWaitDoesNotCount(t *testing.T) {
	bubble(t, secure(t), func(t *testing.T, d *Door, _ *fakeLog) {
		const wait = 40 * time.Second
		place, err := d.opt.Gate.Enter(t.Context(), gate.Connect, "")
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		half, good := pipeTLS(d), pipeTLS(d)
		defer func() { _ = good.Close() }()
		if _, err := half.Write([]byte{0x16, 3, 1, 2, 0, 1}); err != nil {
			t.Fatal(err)
		}
		answer := greet(good)
		<-time.After(wait)
		if len(answer) > 0 || d.Stats().Connections != 2 {
			t.Fatalf("while the place was taken: %d answers, %d connections", len(answer), d.Stats().Connections)
		}
		place.Leave()
		if got := <-answer; !bytes.Equal(got, connack) {
			t.Errorf("who waited was answered % x", got)
		}
		_, err = half.Read(make([]byte, 1))
		if took := time.Since(start); err == nil || took.Round(time.Second) != wait+handshakes*d.opt.ConnectTimeout {
			t.Errorf("who stalls ended after %v: %v", took, err)
		}
	})
}

// Nobody waits for a turn for ever.
func TestTurnNeverComes(t *testing.T) {
	bubble(t, secure(t), func(t *testing.T, d *Door, _ *fakeLog) {
		place, err := d.opt.Gate.Enter(t.Context(), gate.Connect, "")
		if err != nil {
			t.Fatal(err)
		}
		defer place.Leave()
		start := time.Now()
		got := <-greet(pipeTLS(d))
		if took := time.Since(start); got != nil || took != gate.LongestWait {
			t.Errorf("it was answered % x after %v", got, took)
		}
	})
}

// A client that has lost its patience costs no handshake when its turn comes.
func TestLeftWhileWaiting(t *testing.T) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	near, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = far.Close() }()
	if hasLeft(far) {
		t.Error("it is still there")
	}
	if _, err := near.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); err != nil || hasLeft(far) {
		t.Error("it has sent something, and is still there", err)
	}
	_ = near.Close()
	if _, err := far.Read(make([]byte, 1)); err == nil || !hasLeft(far) { // the Read waits for the end to come
		t.Error("it has left", err)
	}
}
