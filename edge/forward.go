package edge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/sync/uplink"
)

// stoppedRetry is how long the uplink rests after it found a contradiction that
// only a person can resolve.
const stoppedRetry = time.Minute

// forward moves every ledger into Kafka, one after the other, the oldest first,
// so that each device stays in order over a restart (U2); the live one for as
// long as it is. It returns when ctx ends.
func (n *Node) forward(ctx context.Context) error {
	cfg, err := uplinkConfig(n.cfg)
	if err != nil {
		return err
	}
	cfg.Logger, cfg.Pace, cfg.Link = n.logger, n.running.ask, n.up.link
	n.site.holdAtMarks(&cfg)
	n.machine.Kafka(&cfg)
	n.awaitClock(ctx)
	done := map[tributary.LedgerID]bool{}
	for {
		id := n.nextLedger(done)
		if id != n.log.Ledger() {
			n.logger.Info("forwarding an earlier ledger", "ledger", id.String(), "from", n.up.position(id).Next)
		}
		if err := n.forwardLedger(ctx, cfg, id); err != nil {
			return err
		}
		done[id] = true
		if err := n.save(); err != nil { // the next start need not ask Kafka about this one again
			n.logger.Warn("could not note that a ledger is in Kafka; the next start reads it from Kafka", "error", err)
		}
	}
}

func (n *Node) forwardLedger(ctx context.Context, cfg uplink.Config, id tributary.LedgerID) error {
	for first := true; ; first = false {
		cfg.Hint = n.up.position(id).Next
		// Drawn by this process, and no peer is there that may have forwarded a copy: Kafka cannot know it yet.
		cfg.Fresh = first && id == n.log.Ledger() && n.site == nil
		src, err := n.log.Reader(id)
		if err != nil {
			return err
		}
		from, watch := n.site.confirmed(src, n.up)
		err = uplink.Forward(ctx, cfg, from, watch)
		src.Close()
		var stopped *uplink.StoppedError
		if !errors.As(err, &stopped) {
			return err
		}
		n.logger.Error("the uplink has stopped", "ledger", id.String(), "error", err)
		n.up.stop(stopped)
		select {
		case <-time.After(stoppedRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// uplinkConfig turns the [kafka] section into what the uplink wants, and reads
// the files that it names.
func uplinkConfig(c *config.Config) (uplink.Config, error) {
	k := &c.Kafka
	u := uplink.Config{
		Brokers: k.Brokers, Site: c.Node.Site, Node: c.Node.Name, ClientID: k.ClientID,
		CreateTopics: k.CreateTopics, Partitions: k.Partitions, ReplicationFactor: k.ReplicationFactor,
		PositionsTopic: k.PositionsTopic, DeadLetter: c.DefaultRoute.DeadLetter,
		Linger: k.Linger, BatchBytes: max(k.BatchBytes, 64<<10), TransactionTimeout: k.TransactionTimeout,
	}
	if k.SOCKS5 != "" {
		u.Proxy = "socks5://" + k.SOCKS5
	}
	if k.SASL != config.NoSASL {
		password, err := os.ReadFile(k.PasswordFile)
		if err != nil {
			return u, fmt.Errorf("read [kafka] password_file: %w", err)
		}
		mechanisms := map[config.SASL]string{config.Plain: "plain", config.ScramSHA256: "scram-sha-256", config.ScramSHA512: "scram-sha-512"}
		u.SASL = uplink.SASL{Mechanism: mechanisms[k.SASL], User: k.Username, Password: strings.TrimRight(string(password), "\r\n")}
	}
	if !k.TLS {
		return u, nil
	}
	u.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if k.CAFile != "" {
		pem, err := os.ReadFile(k.CAFile)
		if err != nil {
			return u, fmt.Errorf("read [kafka] ca_file: %w", err)
		}
		u.TLS.RootCAs = x509.NewCertPool()
		if !u.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return u, fmt.Errorf("[kafka] ca_file %s holds no certificate in PEM form", k.CAFile)
		}
	}
	if k.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(k.CertFile, k.KeyFile)
		if err != nil {
			return u, fmt.Errorf("read [kafka] cert_file and key_file: %w", err)
		}
		u.TLS.Certificates = []tls.Certificate{pair}
	}
	return u, nil
}

// uplinkState is what the node knows of the way to Kafka. It is the uplink's
// Observer.
type uplinkState struct {
	logger *slog.Logger
	link   *uplink.Link  // of all that this node sends to Kafka
	moved  chan struct{} // one slot: a position moved

	mu      sync.Mutex // guards what follows
	pos     map[tributary.LedgerID]tributary.Position
	dirty   bool
	report  status.Uplink
	retired uplink.Counters // of ledgers that are done
	current uplink.Counters
}

func newUplinkState(c *config.Config, started time.Time, logger *slog.Logger) *uplinkState {
	return &uplinkState{
		logger: logger, link: &uplink.Link{BytesPerSecond: c.Kafka.MaxBandwidth},
		moved: make(chan struct{}, 1), pos: map[tributary.LedgerID]tributary.Position{},
		report: status.Uplink{State: uplink.Connecting.String(), Since: started},
	}
}

// Committed implements uplink.Observer.
func (u *uplinkState) Committed(c uplink.Commit) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.report.Twice += twice(u.pos[c.Position.Ledger].Next, &c)
	u.pos[c.Position.Ledger] = c.Position
	u.dirty = true
	u.report.Sent += uint64(c.Records)
	u.report.SentBytes += uint64(c.Bytes)
	u.report.DeadLetters += uint64(c.DeadLetters)
	u.report.Gaps += uint64(c.Gaps)
	u.report.GapRecords += c.GapRecords
	if c.Records > 0 || c.Gaps > 0 {
		u.report.Transactions++ // without records it is what an earlier session had committed
	}
	u.report.Cluster = c.KafkaClusterID
	select {
	case u.moved <- struct{}{}:
	default:
	}
}

// twice returns how many of the records that were committed Kafka had before, when it
// was known to have all below next: more were sent than the position moved (U1).
func twice(next tributary.LSN, c *uplink.Commit) uint64 {
	sent := uint64(max(0, c.Records))
	return sent - min(sent, uint64(c.Position.Next-min(next, c.Position.Next)))
}

// tookOver counts what this node has forwarded of another's ledger.
func (u *uplinkState) tookOver(c uplink.Commit) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.report.Sent += uint64(c.Records)
	u.report.SentBytes += uint64(c.Bytes)
	u.report.DeadLetters += uint64(c.DeadLetters)
	u.report.Gaps += uint64(c.Gaps)
	u.report.GapRecords += c.GapRecords
}

// State implements uplink.Observer.
func (u *uplinkState) State(s uplink.Status) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if s.Counters.Failed < u.current.Failed || s.Counters.Transactions < u.current.Transactions { // the next ledger's Forward
		u.retired.Failed += u.current.Failed
		u.retired.Fenced += u.current.Fenced
	}
	u.current = s.Counters
	u.report.Failed, u.report.Fenced = u.retired.Failed+s.Counters.Failed, u.retired.Fenced+s.Counters.Fenced
	switch was := u.report; {
	case s.State == uplink.Waiting && was.What != s.What:
		u.logger.Warn("the uplink waits; nothing is lost", "what", s.What, "do", s.Do)
	case s.State == uplink.Forwarding && was.State != s.State.String():
		u.logger.Info("the uplink forwards")
	}
	u.change(s.State.String(), s.What, s.Do)
}

func (u *uplinkState) stop(s *uplink.StoppedError) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.change("stopped", s.What, s.Do)
}

func (u *uplinkState) change(state, what, do string) {
	if u.report.State != state {
		u.report.Since = time.Now()
	}
	u.report.State, u.report.What, u.report.Do = state, what, do
}

func (u *uplinkState) recall(p tributary.Position) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pos[p.Ledger] = p
}

func (u *uplinkState) position(id tributary.LedgerID) tributary.Position {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.pos[id]
}

func (u *uplinkState) positions() []tributary.Position {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.dirty = false
	all := make([]tributary.Position, 0, len(u.pos))
	for _, p := range u.pos {
		all = append(all, p)
	}
	return all
}

func (u *uplinkState) changed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.dirty
}

func (u *uplinkState) snapshot() status.Uplink {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.report
}
