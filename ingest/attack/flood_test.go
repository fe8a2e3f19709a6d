//go:build attack

package attack

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A cgroup has a limit on memory (version 1 of cgroups).
type cgroup struct{ dir string }

// newCgroup makes one below that of this process, and skips the test where there
// are none.
func newCgroup(t *testing.T, limitBytes int) cgroup {
	t.Helper()
	const root = "/sys/fs/cgroup/memory"
	parent := root
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		skip(t, "this kernel has no cgroups: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if _, own, found := strings.Cut(strings.TrimSpace(line), ":memory:"); found {
			if _, err := os.Stat(filepath.Join(root, own)); err == nil {
				parent = filepath.Join(root, own)
			}
		}
	}
	g := cgroup{filepath.Join(parent, fmt.Sprintf("tributary-attack-%d", os.Getpid()))}
	if err := os.Mkdir(g.dir, 0o750); err != nil {
		// A machine with cgroups of version 2 alone has none, and a container may not make one.
		skip(t, "no memory cgroup of version 1, or not root: %v", err)
	}
	t.Cleanup(func() { // after the node has ended
		if err := os.Remove(g.dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.WriteFile(filepath.Join(g.dir, "memory.limit_in_bytes"), []byte(strconv.Itoa(limitBytes)), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g cgroup) figure(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(g.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const smallMemory = 128 << 20

// TestHugePackets has eight sockets announce packets of 256 MiB, and send them, to
// a node with 128 MB: before CONNECT, and as clients that were let in.
func TestHugePackets(t *testing.T) {
	long(t)
	longest := []byte{0xff, 0xff, 0xff, 0x7f} // 256 MiB - 1
	for _, attack := range []struct {
		name      string
		first     []byte // what begins each packet
		connected bool
	}{
		{"CONNECT", append([]byte{0x10}, longest...), false},
		{"PUBLISH before CONNECT", append([]byte{0x32}, longest...), false},
		{"PUBLISH", append([]byte{0x32}, longest...), true},
		{"SUBSCRIBE", append([]byte{0x82}, longest...), true},
		{"CONNECT with a will of 64 KiB", pack(0x10, "MQTT", 4, 6, uint16(60), "will", "topic", strings.Repeat("w", 65000)), false},
	} {
		t.Run(attack.name, func(t *testing.T) {
			g := newCgroup(t, smallMemory)
			n := startNode(t, setup{cgroup: g.dir})
			b := stand(t, n, hello{id: "bystander"}, 10*time.Millisecond)
			before := n.rss(t)
			stop := n.watch(t)
			var sent, rounds atomic.Int64
			end := time.Now().Add(5 * time.Second)
			var work sync.WaitGroup
			for i := range 8 {
				work.Go(func() {
					for time.Now().Before(end) {
						sent.Add(sendHuge(n.plain, fmt.Sprintf("evil-%d", i), attack.first, attack.connected))
						rounds.Add(1)
					}
				})
			}
			work.Wait()
			t.Logf("%d packets begun, %s taken from them; RSS %s before, at most %s; the cgroup had at most %s (%d times at its limit)",
				rounds.Load(), mb(int(sent.Load())), mb(before), mb(stop()), mb(g.figure(t, "memory.max_usage_in_bytes")), g.figure(t, "memory.failcnt"))
			if rounds.Load() < 8 {
				t.Errorf("only %d packets were begun", rounds.Load())
			}
			n.mustRun(t)
			if grown := n.rss(t) - before; grown > 32<<20 {
				t.Errorf("the node has grown by %s", mb(grown))
			}
			b.leave(t, stormLimit)
		})
	}
}

// sendHuge sends the beginning of a packet and then as much as the other side
// takes, and returns how many bytes that was. The kernel takes some for it.
func sendHuge(address, id string, first []byte, connected bool) (sent int64) {
	var nc net.Conn
	if connected {
		c, err := enter(address, hello{id: id}, nil)
		if err != nil {
			return 0
		}
		nc = c
	} else {
		var err error
		if nc, err = dialFrom(source(), address); err != nil {
			return 0
		}
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(patience))
	if _, err := nc.Write(first); err != nil {
		return 0
	}
	filler := make([]byte, 64<<10)
	for sent < 256<<20 {
		k, err := nc.Write(filler)
		sent += int64(k)
		if err != nil {
			break
		}
	}
	return sent
}

// TestHalfPackets has very many sockets send all but the last byte of what they
// may send, to a node with 128 MB: how much is that which the node must hold?
func TestHalfPackets(t *testing.T) {
	long(t)
	connectBytes := pack(0x10, "MQTT", 4, 6, uint16(60), "will", "topic", strings.Repeat("w", 65000))
	connectBytes = connectBytes[:len(connectBytes)-1]
	publishBytes := publish(4, 1, 1, "t", strings.Repeat("x", 250<<10))
	publishBytes = publishBytes[:len(publishBytes)-1]
	for _, attack := range []struct {
		name      string
		bytes     []byte
		connected bool
		sockets   int
	}{
		{"CONNECT of 64 KiB", connectBytes, false, 1000},
		{"PUBLISH of 250 KiB", publishBytes, true, 1000},
	} {
		t.Run(attack.name, func(t *testing.T) {
			needFiles(t, 2*attack.sockets+100)
			g := newCgroup(t, smallMemory)
			n := startNode(t, setup{cgroup: g.dir})
			b := stand(t, n, hello{id: "bystander"}, 10*time.Millisecond)
			stop := n.watch(t)
			var open []net.Conn
			var sent int
			for i := range attack.sockets {
				nc, err := dialOrEnter(n.plain, fmt.Sprintf("half-%d", i), attack.connected)
				if err != nil {
					continue
				}
				open = append(open, nc)
				_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
				k, _ := nc.Write(attack.bytes)
				sent += k
			}
			pass(2 * time.Second)
			for _, nc := range open {
				nc.Close()
			}
			t.Logf("%d sockets, %s sent; RSS at most %s; the cgroup had at most %s (%d times at its limit)",
				len(open), mb(sent), mb(stop()), mb(g.figure(t, "memory.max_usage_in_bytes")), g.figure(t, "memory.failcnt"))
			n.mustRun(t)
			b.leave(t, patience)
		})
	}
}

func dialOrEnter(address, id string, connected bool) (net.Conn, error) {
	if !connected {
		return dialFrom(source(), address)
	}
	c, err := enter(address, hello{id: id}, nil)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// TestReservedFiles has more clients connect, to both listeners, than the node may
// have file descriptors. It keeps some back: the log goes on, into new segments
// too, and when they leave, others get in.
func TestReservedFiles(t *testing.T) {
	const limit, clients = 128, 400
	n := startNode(t, setup{files: limit})
	b := stand(t, n, hello{id: "bystander"}, 5*time.Millisecond)
	writer := mustEnter(t, n.plain, hello{id: "writer"})
	open := many(t, n, clients)
	bulk(t, n, writer)
	used := n.files(t)
	for _, nc := range open {
		nc.Close()
	}
	took := letIn(t, n)
	t.Logf("%d file descriptors allowed, %d used while %d clients tried to connect; a new one got in %v after they left", limit, used, clients, took)
	if text := n.output(t); bytes.Contains(text, []byte("too many open files")) {
		t.Errorf("the file descriptors have run out:\n%s", text)
	}
	b.leave(t, stormLimit)
}

// TestFilesRunOut takes the file descriptors away while the node runs, so that
// nothing is kept back. Clients that are there are served; when the others leave,
// new ones get in, and the log goes into new segments, which it looks for every
// five seconds.
func TestFilesRunOut(t *testing.T) {
	n := startNode(t, setup{})
	b := stand(t, n, hello{id: "bystander"}, 5*time.Millisecond)
	writer := mustEnter(t, n.plain, hello{id: "writer"})
	for range 50 { // into the second segment, so that there is one, prepared ahead or not
		if err := writer.publish("bulk/t", strings.Repeat("x", 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	limit := n.files(t) + 20
	if err := unix.Prlimit(n.cmd.Process.Pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(limit), Max: uint64(limit)}, nil); err != nil {
		t.Fatal("lower the limit of a child of our own: ", err)
	}
	open := many(t, n, 200)
	await(t, patience, "file descriptors to run out", func() bool {
		return bytes.Contains(n.output(t), []byte("too many open files"))
	})
	for i := range 100 {
		if err := writer.publish("small/t", "x"); err != nil {
			t.Fatalf("message %d, with no file descriptors left: %v\n%s", i, err, n.tail(t))
		}
	}
	for _, nc := range open {
		nc.Close()
	}
	t.Logf("%d file descriptors: a new client got in %v after 200 had left", limit, letIn(t, n))
	await(t, patience, "the log to have a segment again", func() bool {
		_ = writer.Close() // a node that has no room for a message ends the connection
		writer = mustEnter(t, n.plain, hello{id: "writer"})
		for range 50 { // 5 MB
			if err := writer.publish("bulk/t", strings.Repeat("x", 100<<10)); err != nil {
				return false
			}
		}
		return true
	})
	bulk(t, n, writer)
	b.leave(t, stormLimit)
}

// many connects very many clients, half of them to the WebSocket listener, which
// they say nothing to, and does not mind if the node closes them.
func many(t *testing.T, n *node, clients int) (open []net.Conn) {
	t.Helper()
	for i := range clients {
		address := []string{n.plain, n.webSocket}[i%2]
		nc, err := dialFrom(source(), address)
		if err != nil {
			t.Fatal(err) // the kernel takes them
		}
		if address == n.plain {
			_, _ = nc.Write(hello{id: fmt.Sprintf("many-%d", i), keepAliveSeconds: 60}.packet())
		}
		open = append(open, nc)
	}
	return open
}

// bulk publishes 15 MB, which is four segments of the log.
func bulk(t *testing.T, n *node, c *client) {
	t.Helper()
	payload := strings.Repeat("x", 100<<10)
	for i := range 150 {
		if err := c.publish("bulk/t", payload); err != nil {
			t.Fatalf("message %d of 100 KiB: %v\n%s", i, err, n.tail(t))
		}
	}
}

// letIn returns how long it takes until a new client gets in.
func letIn(t *testing.T, n *node) time.Duration {
	t.Helper()
	start := time.Now()
	await(t, 5*time.Second, "a new client to get in", func() bool {
		c, err := enter(n.plain, hello{id: "late"}, nil)
		if err != nil {
			return false
		}
		_ = c.Close()
		return true
	})
	return time.Since(start).Round(time.Millisecond)
}
