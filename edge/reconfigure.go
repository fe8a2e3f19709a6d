package edge

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/ingest/route"
)

// running is what a reload changes while the node runs. The Config that the node was opened with
// does not change: it is what all else goes by, until a restart.
type running struct {
	table atomic.Pointer[route.Table]
	pace  atomic.Pointer[pace]

	mu      sync.Mutex      // guards what follows
	inForce *config.Reading // nil: the configuration cannot be reloaded
	state   status.Config
}

// A pace is how the uplink gathers records.
type pace struct {
	linger     time.Duration
	batchBytes int
}

// apply puts in force what may change while the node runs.
func (r *running) apply(c *config.Config) {
	r.table.Store(c.Table)
	r.pace.Store(&pace{c.Kafka.Linger, c.Kafka.BatchBytes})
}

// ask is an uplink.Config's Pace.
func (r *running) ask() (linger time.Duration, batchBytes int) {
	p := r.pace.Load()
	return p.linger, p.batchBytes
}

// Adopt tells a node, before it runs, what its configuration was read from, so that
// it can be reloaded. Once devices can connect, a copy of it is kept in the data
// directory as the last good one; but not if broken says why r is that copy.
func (n *Node) Adopt(r *config.Reading, broken string) {
	n.running.mu.Lock()
	defer n.running.mu.Unlock()
	n.running.inForce, n.running.state.LastGood = r, broken
}

// Reconfigure takes a configuration that was read anew, or the error of reading it,
// and returns what is in force from now on. What needs a restart stays as it is, and
// the node is yellow until that, or until the configuration is as it was. If it has
// an error, all of it stays as it is. It may be called at any time, and is called
// after Adopt; what log lines look like is up to the caller.
func (n *Node) Reconfigure(next *config.Reading, err error) *config.Config {
	r := &n.running
	r.mu.Lock()
	defer r.mu.Unlock()
	var why string
	if err != nil {
		why = err.Error()
	} else {
		why = next.FirstError()
	}
	if why != "" {
		r.state.BadReload = why
		n.logger.Error("the configuration was not reloaded; all of it stays as it was", "problem", why)
		return r.inForce.Config
	}
	inForce, waiting := r.inForce.Reload(next)
	c := inForce.Config
	if n.reserveWaits(c) && !slices.Contains(waiting, reserveKey) {
		waiting = append(waiting, reserveKey)
	}
	r.inForce, r.state = inForce, status.Config{NeedsRestart: waiting}
	r.apply(c)
	n.door.Reroute()
	n.door.SetLimits(ingest.Limits{
		MaxPerAddress: c.MQTT.MaxConnectionsPerAddress, MaxMessagesPerSecond: c.MQTT.MaxMessagesPerSecond, MaxBytesPerSecond: c.MQTT.MaxBytesPerSecond,
		MaxSlowed: c.MQTT.MaxSlowed, MaxRetained: c.MQTT.MaxRetained, MaxRetainedBytes: c.MQTT.MaxRetainedBytes,
	})
	for _, key := range waiting {
		n.logger.Warn("needs a restart: "+key, "until_then", "the old value is in force") //nolint:sloglint // the sentence is what people look for
	}
	n.logger.Info("reloaded the configuration", "routes", len(c.Routes), "linger", c.Kafka.Linger.String(), "need_a_restart", len(waiting))
	n.keepLastGood(inForce)
	return c
}

const reserveKey = "[log] alarm_reserve"

// reserveWaits says whether its "auto" means another reserve with c, because there are
// alarm routes now or none any more: the log has set it aside when it was opened.
func (n *Node) reserveWaits(c *config.Config) bool {
	return n.cfg.Log.AlarmReserve == 0 && c.Log.AlarmReserve == 0 && n.cfg.HasAlarms() != c.HasAlarms()
}

// keepLastGood keeps a configuration for a start with a broken one.
func (n *Node) keepLastGood(r *config.Reading) {
	if err := r.KeepLastGood(n.cfg.Node.DataDir); err != nil {
		n.logger.Warn("could not keep a copy of the configuration; a start with a broken one has none, or an older one, to go on with", "error", err)
	}
}

// startedWell keeps the configuration of a start that worked.
func (n *Node) startedWell() {
	n.running.mu.Lock()
	defer n.running.mu.Unlock()
	if r := &n.running; r.inForce != nil && r.state.LastGood == "" {
		n.keepLastGood(r.inForce)
	}
}

// configState says what came of the configuration.
func (n *Node) configState() status.Config {
	n.running.mu.Lock()
	defer n.running.mu.Unlock()
	state := n.running.state
	state.NeedsRestart = append([]string{}, state.NeedsRestart...) // [] for programs, never null
	return state
}
