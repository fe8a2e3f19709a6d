//go:build attack

package attack

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Newcomers say who newcomers are: devices that all connect at once, from a
// process of their own. Their side of a TLS handshake costs as much as the node's,
// and devices do not have it from the node's processor: so that process is in a
// session of its own and of a low priority, and does as little as it can: as many
// small devices do, it trusts the node and takes X25519. What is measured meanwhile
// is the node.
type newcomers struct {
	Address string
	Devices int
	Tokens  string // file with a token for each, one a line; "": none have any
	TLS     bool
	// With TLS: their certificate and its key, files; "": they have none.
	Cert, Key string
}

// newcomersVariable holds them, for the process that plays them.
const newcomersVariable = "ATTACK_NEWCOMERS"

// newcomersPatience is how long a device waits for its CONNACK before it starts
// anew.
const newcomersPatience = 30 * time.Second

// An entry is how it was when all of them connected.
type entry struct {
	Connected int
	All       time.Duration // until the last one was
	Half      time.Duration // until half of them were
	Retries   int
	Why       string // of the last one
}

func (e entry) String() string {
	return fmt.Sprintf("%d connected in %v (half of them in %v), %d retries %s",
		e.Connected, e.All.Round(time.Millisecond), e.Half.Round(time.Millisecond), e.Retries, e.Why)
}

// A newcomersProcess plays newcomers.
type newcomersProcess struct {
	say  io.WriteCloser
	hear *bufio.Reader
}

func (w newcomers) start(t *testing.T) *newcomersProcess {
	t.Helper()
	job, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nice", "-n", fmt.Sprint(behind), os.Args[0])
	cmd.Env = append(os.Environ(), newcomersVariable+"="+string(job))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	p := &newcomersProcess{}
	if p.say, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.hear = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.say.Close() // it ends then
		_ = cmd.Wait()
	})
	// A session of its own has a priority of its own, where the kernel has autogroups.
	if err := fallBehind(cmd.Process.Pid); err != nil {
		t.Logf("the newcomers compete with the node for the processors: %v", err)
	}
	return p
}

// behind is by how much the newcomers are nicer than this process and the node: they
// get a quarter of a processor that both want. With much less, on a machine that
// does other things too, they would answer the node too late and start anew.
const behind = 5

// fallBehind makes the session of a process so much nicer than that of this one.
func fallBehind(pid int) error {
	text, err := os.ReadFile("/proc/self/autogroup")
	if err != nil {
		return err
	}
	var session, nice int
	if _, err := fmt.Sscanf(string(text), "/autogroup-%d nice %d", &session, &nice); err != nil {
		return err
	}
	return os.WriteFile(fmt.Sprintf("/proc/%d/autogroup", pid), fmt.Append(nil, min(19, nice+behind)), 0)
}

// enter has all of them connect.
func (p *newcomersProcess) enter(t *testing.T) (e entry) {
	t.Helper()
	if _, err := io.WriteString(p.say, "enter\n"); err != nil {
		t.Fatal(err)
	}
	line, err := p.hear.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &e)
	}
	if err != nil {
		t.Fatalf("the newcomers: %v", err)
	}
	return e
}

// leave has all of them leave, without a word.
func (p *newcomersProcess) leave(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.say, "leave\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.hear.ReadBytes('\n'); err != nil {
		t.Fatalf("the newcomers: %v", err)
	}
}

// playNewcomers is the process: it does what it is told on stdin, until that ends.
func playNewcomers(job string) error {
	var w newcomers
	if err := json.Unmarshal([]byte(job), &w); err != nil {
		return err
	}
	play, err := w.players()
	if err != nil {
		return err
	}
	answer := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var said any = "left"
		if in.Text() == "enter" {
			said = play.enter()
		} else {
			play.leave()
		}
		if err := answer.Encode(said); err != nil {
			return err
		}
	}
	return nil
}

// Players are newcomers, in their own process.
type players struct {
	newcomers

	config *tls.Config // nil: without TLS
	tokens []string
	open   []net.Conn // by device; nil: not connected
}

func (w newcomers) players() (*players, error) {
	p := &players{newcomers: w, open: make([]net.Conn, w.Devices), tokens: make([]string, w.Devices)}
	if w.Tokens != "" {
		text, err := os.ReadFile(w.Tokens)
		if err != nil {
			return nil, err
		}
		p.tokens = strings.Fields(string(text))
	}
	if !w.TLS {
		return p, nil
	}
	p.config = &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}
	if w.Cert == "" {
		return p, nil
	}
	pair, err := tls.LoadX509KeyPair(w.Cert, w.Key)
	p.config.Certificates = []tls.Certificate{pair}
	return p, err
}

// enter connects all of them at once.
func (p *players) enter() (e entry) {
	var work sync.WaitGroup
	var mu sync.Mutex // guards e
	var in atomic.Int32
	start := time.Now()
	for i := range p.Devices {
		work.Go(func() {
			for time.Since(start) < stormPatience {
				err := p.connect(i)
				mu.Lock()
				if err == nil {
					if e.All = time.Since(start); int(in.Add(1)) == p.Devices/2 {
						e.Half = e.All
					}
					mu.Unlock()
					return
				}
				e.Retries++
				e.Why = err.Error()
				mu.Unlock()
			}
		})
	}
	work.Wait()
	e.Connected = int(in.Load())
	return e
}

// connect connects one of them. What TLS needs is not kept: nothing more is said.
func (p *players) connect(i int) error {
	nc, err := dialFrom(&net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(1+i/500%250))}, p.Address)
	if err != nil {
		return err
	}
	h := hello{id: fmt.Sprintf("device-%05d", i), keepAliveSeconds: 600, password: p.tokens[i]}
	if h.password != "" {
		h.user = "x"
	}
	c := &client{Conn: nc}
	if p.config != nil {
		c.Conn = tls.Client(nc, p.config)
	}
	answer, err := c.askWithin(newcomersPatience, h.packet(), 4)
	if err != nil || !bytes.Equal(answer, []byte{0x20, 2, 0, 0}) {
		_ = nc.Close()
		return errors.Join(fmt.Errorf("CONNECT was answered with % x", answer), err)
	}
	p.open[i] = nc
	return nil
}

// leave ends all connections without a word: with a reset, so that no port is
// kept.
func (p *players) leave() {
	for i, nc := range p.open {
		if nc != nil {
			_ = nc.(*net.TCPConn).SetLinger(0)
			_ = nc.Close()
			p.open[i] = nil
		}
	}
}
