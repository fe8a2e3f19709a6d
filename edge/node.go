// Package edge is one gateway, put together: the MQTT door, the log, and the
// uplink to Kafka. It is the only package that knows all parts, and holds no
// logic that a part could hold.
package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/edge/page"
	"github.com/tributary-edge/tributary/ingest"
	"github.com/tributary-edge/tributary/ingest/auth"
	"github.com/tributary-edge/tributary/ingest/gate"
	"github.com/tributary-edge/tributary/ingest/route"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
	"github.com/tributary-edge/tributary/sync/origin"
)

// Version is what this build calls itself; the linker sets it for a release.
//
//nolint:gochecknoglobals // -ldflags needs a variable
var Version = "0.1.0-dev"

// segmentsDir is the folder of the log in the data directory.
const segmentsDir = "log"

// Node is one gateway.
type Node struct {
	cfg     *config.Config
	logger  *slog.Logger
	lock    io.Closer
	meta    *meta.DB
	meter   *meter
	trend   *trend
	viewers *page.Guard // of the status page
	id      meta.Identity
	log     *store.Log
	door    *ingest.Door
	guard   *auth.Guard
	reader  *ledgerReader // for local subscribers
	machine Machine
	clock   clock.Source
	damaged int
	started time.Time
	up      *uplinkState
	site    *site // nil: this node is alone
	ready   chan struct{}
	grown   chan struct{} // one slot: something was committed to a log that may drop it

	running   running
	badReload atomic.Pointer[string] // why the last reload failed; nil: it did not

	saving       sync.Mutex    // guards what follows; one save at a time
	checkpointed tributary.LSN // the checkpoint has the records of checkpointOf below it
	checkpointOf tributary.LedgerID
}

// Open takes the data directory, recovers what earlier processes left in it and
// prepares everything; nothing listens yet. The error of a directory that
// another process has, that cannot be read, or that a newer version wrote says
// so; nothing was changed then. ctx is for the opening; the node outlives it.
func Open(ctx context.Context, cfg *config.Config, logger *slog.Logger) (n *Node, err error) {
	return OpenOn(ctx, cfg, logger, Machine{})
}

// OpenOn is Open on another machine.
func OpenOn(ctx context.Context, cfg *config.Config, logger *slog.Logger, m Machine) (n *Node, err error) {
	m = m.withDefaults()
	n = &Node{cfg: cfg, logger: logger, machine: m, clock: m.Clock, started: time.Now(), trend: newTrend(), ready: make(chan struct{}), grown: make(chan struct{}, 1)}
	n.running.apply(cfg)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			n = nil
		}
	}()
	lock, err := disk.Lock(cfg.Node.DataDir)
	if err != nil {
		return n, explainDir(cfg.Node.DataDir, err)
	}
	n.lock = lock
	db, aside, err := meta.Open(cfg.Node.DataDir)
	if err != nil {
		return n, explainDir(cfg.Node.DataDir, err)
	}
	n.meta = db
	if aside != "" {
		logger.Warn("the meta file was damaged and is set aside; the node has a new id, no record is lost", "file", aside)
	}
	if n.id, err = db.Start(); err != nil {
		return n, explainDir(cfg.Node.DataDir, err)
	}
	if err := n.openLog(); err != nil {
		return n, explainDir(cfg.Node.DataDir, err)
	}
	if err := n.openSite(); err != nil {
		return n, explainDir(cfg.Node.DataDir, err)
	}
	return n, n.openDoor(ctx)
}

// explainDir says what to do about a data directory that cannot be used. What
// names the directory, or the key that is wrong, is a sentence already.
func explainDir(dir string, err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("data directory %s cannot be used: %w; nothing was changed: run as the user who owns it, or chown it", dir, err)
	}
	if errors.As(err, new(*reserveError)) || strings.Contains(err.Error(), dir) {
		return err
	}
	return fmt.Errorf("data directory %s: %w", dir, err)
}

func (n *Node) openLog() error {
	cfg := &n.cfg.Log
	fs, err := n.machine.Folder(filepath.Join(n.cfg.Node.DataDir, segmentsDir))
	if err != nil {
		return err
	}
	n.meter, fs = newMeter(fs, n.meta, n.cfg.Node.DataDir, cfg.EnduranceBytes, n.cfg.Kafka.Linger)
	maxBytes, alarmReserve, copiesLeave, err := n.room()
	if err != nil {
		return err
	}
	flash := disk.Flash(n.cfg.Node.DataDir)
	window := n.cfg.Ack.WindowOn(flash)
	opening := &record.Record{Key: []byte(origin.Key), Value: n.opening()}
	l, found, err := store.Open(fs, store.Options{
		SegmentBytes: cfg.SegmentBytes, MaxBytes: maxBytes, MaxAge: cfg.MaxAge, Window: window, Compress: cfg.Compression.On(flash),
		DropOldest: cfg.DropOldest, AlarmReserve: alarmReserve, CopyReserve: copiesLeave, Opening: opening, Clock: n.clock,
	})
	if err != nil {
		return err
	}
	n.log, n.damaged = l, len(found.Rot)
	for i := range found.Rot {
		n.logger.Error("the disk has damaged a part of the log", "what", found.Rot[i].Error())
	}
	for _, h := range l.Holes() {
		if !l.Wrote(h.Ledger) {
			continue // of a copy: another node has it, or Kafka had it when more came
		}
		n.logger.Error("records of the log are damaged; Kafka gets a gap record in their place", "ledger", h.Ledger.String(), "from", uint64(h.From), "to", uint64(h.To))
	}
	for _, name := range found.ReadOnly {
		n.logger.Error("a file of the log cannot be written to; it is read, and left as it is", "file", name)
	}
	n.logger.Info("log recovered", "segments", found.Segments, "scanned", found.Scanned, "torn_tail", found.Torn,
		"ledgers", len(l.Ledgers()), "live", l.Ledger().String(), "max_bytes", maxBytes, "window", window.String())
	return nil
}

func (n *Node) openDoor(ctx context.Context) error {
	n.reader = &ledgerReader{log: n.log}
	n.up = newUplinkState(n.cfg, n.started, n.logger)
	places := gate.New(gate.Places())
	guard, err := openGuard(&n.cfg.MQTT, places)
	if err != nil {
		return err
	}
	n.guard = guard
	if n.viewers, err = openViewers(&n.cfg.Status); err != nil {
		return err
	}
	var asked ingest.Guard = guard
	if n.site != nil {
		asked = members{guard, n.site}
	}
	var moves ingest.Handoff // nil: there is nobody else
	if n.site != nil {
		moves = arrivals{n.site}
	}
	door, err := ingest.New(ingest.Options{
		Handoff: moves, ListenOn: n.machine.Listen,
		Listen: n.cfg.MQTT.Listen, ListenTLS: n.cfg.MQTT.ListenTLS, ListenWS: n.cfg.MQTT.ListenWS, ListenWSS: n.cfg.MQTT.ListenWSS, TLS: guard.TLS(),
		Log: n.log, Reader: n.reader, Router: router{&n.running.table}, Guard: asked, Gate: places, Version: Version,
		IsFull:     func(err error) bool { return errors.As(err, new(*store.FullError)) },
		DeadLetter: n.cfg.DefaultRoute.DeadLetter,
		MaxClients: n.cfg.MQTT.MaxClients, MaxPacketBytes: n.cfg.MQTT.MaxPacketBytes, ReceiveMaximum: int(n.cfg.MQTT.ReceiveMaximum), MaxTopicLevels: n.cfg.MQTT.MaxTopicLevels,
		MaxPerAddress: n.cfg.MQTT.MaxConnectionsPerAddress, MaxMessagesPerSecond: n.cfg.MQTT.MaxMessagesPerSecond, MaxBytesPerSecond: n.cfg.MQTT.MaxBytesPerSecond,
		MaxSlowed: n.cfg.MQTT.MaxSlowed, MaxRetained: n.cfg.MQTT.MaxRetained, MaxRetainedBytes: n.cfg.MQTT.MaxRetainedBytes,
		ServerReference: n.cfg.MQTT.ServerReference, ResentIsNew: n.site != nil && n.site.acks != nil,
		Node: n.id.Node, Share: n.site.share(),
		Logger: n.logger,
	})
	if err != nil {
		return err
	}
	n.door = door
	if n.site != nil {
		n.site.fan, n.site.alike.door = newFanout(door, n.log, n.signalGrown), door
	}
	n.log.OnCommit(n.committed)
	if n.site != nil && n.site.acks != nil {
		n.site.acks.Deliver = n.committed
		n.log.OnCommit(n.site.acks.Committed)
	}
	return n.replay(ctx)
}

// committed is told of every group. A log that drops its oldest records must not
// drop what no checkpoint has: so keep looks often enough, however fast it fills.
func (n *Node) committed(ledger tributary.LedgerID, base tributary.LSN, tickets []tributary.Ticket, err error) {
	n.door.Committed(ledger, base, tickets, err)
	if n.cfg.Log.DropOldest {
		n.signalGrown()
	}
}

// signalGrown says that the log has grown by what no checkpoint has.
func (n *Node) signalGrown() {
	select {
	case n.grown <- struct{}{}:
	default:
	}
}

// router fits a route.Table to the door.
type router struct{ table *atomic.Pointer[route.Table] }

func (r router) Route(topic, clientID, username string) (ingest.Destination, error) {
	target, err := r.table.Load().Resolve(topic, clientID, username)
	return ingest.Destination{Stream: target.Topic, Key: target.Key, Urgent: target.Urgent, Alarm: target.Alarm}, err
}

// Ready is closed when devices can connect.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Door returns the MQTT door, whose addresses are known once Ready is closed.
func (n *Node) Door() *ingest.Door { return n.door }

// Run serves until ctx ends. Then it takes nothing more from devices, makes what
// it took durable, acknowledges it, notes how far Kafka is, and returns nil. A
// log that fails does not end it: what is stored is still forwarded.
func (n *Node) Run(ctx context.Context) error {
	logCtx, stopLog := context.WithCancel(context.WithoutCancel(ctx)) // outlives the door, which waits for it
	defer stopLog()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	siteCtx, stopSite := context.WithCancel(context.WithoutCancel(ctx)) // so does the site: what the door waits for may need a copy
	defer stopSite()
	var logDone, siteDone, parts sync.WaitGroup
	logDone.Go(func() {
		if err := n.log.Run(logCtx); err != nil {
			n.logger.Error("the log has failed; devices are refused from now on, what is stored is still forwarded", "error", err)
		}
	})
	errs := make(chan error, 5)
	begin := func(ctx context.Context, all *sync.WaitGroup, name string, f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil && !errors.Is(err, context.Canceled) {
				errs <- fmt.Errorf("%s: %w", name, err)
				stop() // one part that cannot go on ends the others, in good order
			}
		})
	}
	begin(ctx, &parts, "uplink", n.forward)
	begin(ctx, &parts, "keep", n.keep)
	if n.cfg.Status.Socket != "" {
		begin(ctx, &parts, "admin", n.serveAdmin)
	}
	begin(ctx, &parts, "door", n.serveDevices)
	begin(ctx, &parts, "mdns", n.announceDoor)
	if n.site != nil {
		begin(siteCtx, &siteDone, "site", n.site.run)
		parts.Go(func() { n.site.drain(ctx) })
	}
	select {
	case <-n.door.Ready():
		n.startedWell()
		close(n.ready)
	case <-ctx.Done():
	}
	parts.Wait()
	stopSite()
	siteDone.Wait()
	stopLog()
	logDone.Wait()
	close(errs)
	err := n.save()
	if failed := n.log.Err(); failed != nil {
		err = errors.Join(err, fmt.Errorf("stopped, with a log that had failed: %w", failed))
	}
	for e := range errs {
		err = errors.Join(e, err)
	}
	return err
}

// serveDevices runs the door.
func (n *Node) serveDevices(ctx context.Context) error {
	err := n.door.Run(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w; nothing that is stored is touched. Is another broker running? Stop it, or choose another [mqtt] listen", err)
	}
	return err
}

// Close gives the data directory back. Run has ended, or was never called.
func (n *Node) Close() error {
	var errs []error
	if n.reader != nil {
		n.reader.Close()
	}
	if n.meta != nil {
		errs = append(errs, n.meta.Close())
	}
	if n.lock != nil {
		errs = append(errs, n.lock.Close())
	}
	return errors.Join(errs...)
}

// opening is the first record of the ledger: who writes it.
func (n *Node) opening() []byte {
	return origin.Opening{Node: n.cfg.Node.Name, NodeID: n.id.Node.String(), Site: n.cfg.Node.Site, Boots: n.id.Boots, Version: Version}.Value()
}

// LogDir returns where the log lies in a data directory.
func LogDir(dataDir string) string { return filepath.Join(dataDir, segmentsDir) }
