package auth

import (
	"bufio"
	"bytes"
	"crypto/pbkdf2"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mosquittoPath finds a program of Mosquitto's, or skips the test.
func mosquittoPath(t *testing.T, name string) string {
	t.Helper()
	for _, path := range []string{name, "/usr/sbin/" + name} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("there is no %s; on Debian: apt-get install mosquitto", name)
	return ""
}

// startMosquitto starts a real broker with an ACL file and the users of the tests,
// whose passwords are "x", and returns its address. stop ends it.
func startMosquitto(t *testing.T, acl string) (address string, stop func()) {
	t.Helper()
	free, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = free.Addr().String()
	_ = free.Close()
	dir := t.TempDir()
	salt := []byte("salt of tests")[:12]
	sum, err := pbkdf2.Key(sha512.New, "x", salt, 1, sha512.Size)
	if err != nil {
		t.Fatal(err)
	}
	hash := base64.StdEncoding.EncodeToString(salt) + "$" + base64.StdEncoding.EncodeToString(sum)
	_, port, _ := net.SplitHostPort(address)
	for name, text := range map[string]string{
		"passwd": "u:$7$1$" + hash + "\nv:$7$1$" + hash + "\nu+:$7$1$" + hash + "\n",
		"acl":    acl,
		"conf": fmt.Sprintf("listener %s 127.0.0.1\nallow_anonymous true\nuser root\npassword_file %s/passwd\nacl_file %s/acl\n",
			port, dir, dir),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	c := exec.CommandContext(t.Context(), mosquittoPath(t, "mosquitto"), "-c", filepath.Join(dir, "conf"))
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return address, func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("mosquitto: %s", out.String())
		}
	}
}

func mqttText(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// dial connects to a broker with MQTT 5.
func dial(t *testing.T, address, user, client string) *bufio.ReadWriter {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	conn, err := net.DialTimeout("tcp", address, time.Second)
	for err != nil {
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
		conn, err = net.DialTimeout("tcp", address, time.Second)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn))
	body := append(mqttText("MQTT"), 5, 2, 0, 60, 0)
	body = append(body, mqttText(client)...)
	if user != "" {
		body[7] |= 0xC0
		body = append(append(body, mqttText(user)...), mqttText("x")...)
	}
	send(t, c, 0x10, body)
	if kind, answer := receive(t, c); kind != 0x20 || answer[1] != 0 {
		t.Fatalf("user %q client %q: %x %x", user, client, kind, answer)
	}
	return c
}

func send(t *testing.T, c *bufio.ReadWriter, kind byte, body []byte) {
	t.Helper()
	if len(body) > 127 {
		t.Fatal("too long for this client")
	}
	_, _ = c.Write(append([]byte{kind, byte(len(body))}, body...))
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, c *bufio.ReadWriter) (kind byte, body []byte) {
	t.Helper()
	kind, err := c.ReadByte()
	size, err2 := c.ReadByte()
	if err != nil || err2 != nil || size > 127 {
		t.Fatal(err, err2, size)
	}
	body = make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		t.Fatal(err)
	}
	return kind, body
}

// mayPublish asks the broker: the PUBACK says.
func mayPublish(t *testing.T, c *bufio.ReadWriter, topic string) bool {
	t.Helper()
	send(t, c, 0x32, append(mqttText(topic), 0, 1, 0))
	kind, body := receive(t, c)
	if kind != 0x40 || len(body) < 2 {
		t.Fatalf("%x %x", kind, body)
	}
	return len(body) == 2 || body[2] < 0x80
}

// The real Mosquitto decides about publishing as we do, for random ACL files, users
// and client ids; what accessList names as different is left out.
func TestAccessAgainstMosquitto(t *testing.T) {
	mosquittoPath(t, "mosquitto")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d; put it into TestAccessAgainstMosquitto to repeat", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	asked, allowed := 0, 0
	for range 20 {
		text := randomACL(r) + randomACL(r) + randomACL(r)
		l := accessOf(t, text)
		address, stop := startMosquitto(t, text)
		for _, user := range []string{"", "u", "v", "u+"} {
			for _, client := range []string{"c", "#"} {
				c := dial(t, address, user, client)
				for range 25 {
					topic := randomTopic(r)
					if strings.HasPrefix(topic, "$") {
						topic = "$SYS" // of topics with $, only these are let through to the list by all versions
					}
					want := mayPublish(t, c, topic)
					if got := l.allows(user, client, Write, topic); got != want {
						t.Errorf("user %q client %q topic %q: %v, Mosquitto says %v, by\n%s", user, client, topic, got, want, text)
					}
					asked++
					if want {
						allowed++
					}
				}
			}
		}
		stop()
		if t.Failed() {
			return
		}
	}
	if allowed < asked/30 || allowed > asked*29/30 {
		t.Errorf("%d of %d allowed: too few of one kind to show anything", allowed, asked)
	}
}
