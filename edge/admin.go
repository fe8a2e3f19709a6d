package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/page"
	"github.com/tributary-edge/tributary/edge/status"
	"github.com/tributary-edge/tributary/log/store"
)

// Report returns the state of the node now.
func (n *Node) Report() status.Report {
	d, l := n.door.Stats(), n.log.Stats()
	r := status.Report{
		Node: n.cfg.Node.Name, NodeID: n.nodeID().String(), Site: n.cfg.Node.Site, Version: Version,
		Started: n.started, Boots: n.id.Boots,
		MQTT: status.MQTT{
			Connections: d.Connections, Received: d.Received, Durable: d.Logged, Resent: d.Resent, NoRoute: d.DeadLettered,
			RefusedFull: d.Refused.Full, RefusedDisk: d.Refused.Failed, RefusedTopic: d.Refused.Topic,
		},
		Log: status.Log{
			Ledger: n.log.Ledger().String(), Next: uint64(n.log.Next()), Durable: uint64(n.log.Durable()),
			UsedBytes: l.UsedBytes, FreeBytes: l.FreeBytes, MaxBytes: l.MaxBytes, Refusing: l.Refusing, NoSegment: l.NoSegment, Flushes: l.Flushes, WrittenBytes: l.WrittenBytes,
			FlushMeanMs: millis(l.FlushMean), FlushMaxMs: millis(l.FlushMax), FlushP50Ms: millis(l.FlushP50), FlushP99Ms: millis(l.FlushP99),
			AckP50Ms: millis(l.CommitP50), AckP99Ms: millis(l.CommitP99), DamagedRanges: n.damaged,
			Holes: holes(n.log.Holes()), LedgerEnded: l.LedgerEnded, DiskError: l.DiskError, DroppedRecords: l.DroppedRecords, UntoldRecords: l.UntoldRecords, RefusingAlarms: l.RefusingAlarms, Records: l.Records,
			HasAlarms: n.cfg.HasAlarms(), DropsOldest: n.cfg.Log.DropOldest,
			ClockSynced: n.clock.Synced(), RoomBytes: l.RoomBytes, PackedFrom: l.PackedFrom, PackedTo: l.PackedTo,
		},
		Uplink: n.up.snapshot(), Config: n.configState(),
	}
	r.MQTT.Sessions, r.MQTT.Retained, r.MQTT.Subscriptions, r.MQTT.Sent = d.Sessions, d.Retained, d.Subscribers, d.Sent
	r.MQTT.SubscribersLost, r.MQTT.RefusedClients = d.Refused.QueueLost+d.Refused.FanoutLost, d.Refused.Denied+d.Refused.TooMany
	r.MQTT.Slowed, r.MQTT.TooFast, r.MQTT.Withdrawn = d.Refused.Slowed, d.Refused.TooFast, d.Refused.Withdrawn
	if why := n.badReload.Load(); why != nil {
		r.MQTT.BadReload = *why
	}
	r.MQTT.Doubts = n.guard.Doubts(time.Now())
	for _, a := range n.door.Addrs() {
		r.MQTT.Listen = append(r.MQTT.Listen, a.String())
	}
	if err := n.log.Err(); err != nil {
		r.Log.Failed = err.Error()
	}
	for _, l := range n.log.Ledgers() {
		if l.Copy {
			continue
		}
		held, gone := l.Behind(n.up.position(l.ID).Next)
		r.Uplink.Waiting += uint64(held)
		if held+gone > 0 {
			r.Uplink.Ledgers++
		}
	}
	if n.site != nil {
		r.Gateways = n.site.report()
	}
	n.meter.report(&r, l)
	sent, received := n.up.link.Bytes()
	r.Uplink.Wire(sent, received, time.Since(n.started))
	r.Sum(n.missing())
	r.Rates = n.trend.rates()
	r.Judge(time.Now())
	return r
}

// missing returns how many records of this node the disk has damaged and Kafka lacks:
// for the others a gap record was told, or Kafka had them before.
func (n *Node) missing() (count uint64) {
	for _, h := range n.log.Holes() {
		if from := max(h.From, n.up.position(h.Ledger).Next); n.log.Wrote(h.Ledger) && from < h.To {
			count += uint64(h.To - from)
		}
	}
	return count
}

// look takes note of the report for the rates, and for the history.
func (n *Node) look(r *status.Report, now time.Time) {
	n.trend.look(counts{at: now, in: r.MQTT.Durable[0] + r.MQTT.Durable[1] + r.MQTT.Durable[2], out: r.Uplink.Sent, waiting: r.Uplink.Waiting})
}

// nodeID returns which node this is.
func (n *Node) nodeID() tributary.NodeID {
	if n.site != nil {
		return n.site.whoami().Node
	}
	return n.id.Node
}

func holes(found []store.Hole) []status.Hole {
	all := make([]status.Hole, len(found))
	for i, h := range found {
		all[i] = status.Hole{Ledger: h.Ledger.String(), From: uint64(h.From), To: uint64(h.To)}
	}
	return all
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// serveAdmin answers the commands on the unix socket and, if an address is
// configured, programs that ask over HTTP.
func (n *Node) serveAdmin(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/status", n.answerStatus)
	mux.HandleFunc("GET /api/history", n.answerHistory)
	mux.HandleFunc("GET /metrics", n.answerMetrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", n.answerReady)
	local := http.NewServeMux()
	local.Handle("/", mux)
	if n.site != nil {
		local.HandleFunc("POST /api/invite", answerInvite(n.site.invitations, n.site.here))
		local.HandleFunc("POST /api/skip", n.site.answerSkip)
		local.HandleFunc("GET /api/nodes", n.site.answerNodes)
		local.HandleFunc("POST /api/nodes/remove", n.site.answerRemove)
	}
	local.HandleFunc("GET /api/tail", n.answerTail) // payloads: only for those who may open the socket

	socket := n.cfg.Status.Socket
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		return fmt.Errorf("make the folder of the socket: %w", err)
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) { // of a process that was killed: we hold the lock
		return fmt.Errorf("remove the old socket: %w", err)
	}
	var lc net.ListenConfig
	unix, err := lc.Listen(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("listen on [status] socket: %w", err)
	}
	if err := os.Chmod(socket, 0o660); err != nil { //nolint:gosec // G302: the group may use the socket
		return fmt.Errorf("set the mode of the socket: %w", err)
	}
	var all sync.WaitGroup
	if n.cfg.Status.Listen != "" {
		page.Register(mux)
		tcp, err := lc.Listen(ctx, "tcp", n.cfg.Status.Listen)
		if err != nil {
			return errors.Join(fmt.Errorf("listen on [status] listen: %w; nothing that is stored is touched. Is another program there? Stop it, or choose another [status] listen", err), unix.Close())
		}
		n.logger.Info("the status page", "url", "http://"+tcp.Addr().String()+"/")
		all.Go(func() { serveHTTP(ctx, tcp, n.viewers.Protect(mux), maxViewers) })
	}
	all.Go(func() { serveHTTP(ctx, unix, local, 0) })
	all.Wait()
	return nil
}

// maxViewers is how many connections strangers may hold open.
const maxViewers = 64

// serveHTTP serves until ctx ends. With a limit on the number of connections those
// beyond it are closed, and nobody may be slow: they come from a network.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, limit int64) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	if limit > 0 {
		s.ReadTimeout, s.WriteTimeout, s.IdleTimeout, s.MaxHeaderBytes = 10*time.Second, 20*time.Second, time.Minute, 16<<10
		s.ConnState = limited(limit)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	_ = s.Serve(l) // it ends with ErrServerClosed
}

// limited closes connections beyond a number of open ones.
func limited(most int64) func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			if open.Add(1) > most {
				_ = c.Close() // the server notices, and says that it is closed
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
}

func (n *Node) answerStatus(w http.ResponseWriter, _ *http.Request) {
	r := n.Report()
	if n.site != nil {
		r.Gateways.Nodes = n.site.rows()
	}
	answerJSON(w, r)
}

func (n *Node) answerHistory(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, n.trend.history())
}

func answerJSON(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(what)
}

func (n *Node) answerMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", status.MetricsType)
	r := n.Report()
	_ = r.Metrics(w)
}

func (n *Node) answerReady(w http.ResponseWriter, _ *http.Request) {
	if n.log.Err() != nil { // why is not for everyone
		http.Error(w, "the log takes nothing more; the status says why", http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}
