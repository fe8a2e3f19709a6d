package sitetest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/edge"
	"github.com/tributary-edge/tributary/edge/config"
	"github.com/tributary-edge/tributary/log/clock"
	"github.com/tributary-edge/tributary/log/disk"
	"github.com/tributary-edge/tributary/log/disk/disktest"
	"github.com/tributary-edge/tributary/log/meta"
	"github.com/tributary-edge/tributary/sync/member"
	"github.com/tributary-edge/tributary/sync/uplink"
)

const (
	mqttPort = 1883
	peerPort = 7882

	segmentBytes = 256 << 10
	logBytes     = 256 << 20
)

// A host is one gateway: a machine with a disk, and a process or none.
type host struct {
	site    *site
	name    string
	ip      string
	id      tributary.NodeID
	extra   string         // of the configuration
	disk    *disktest.Disk // as the process has it, or the next finds it
	dir     string         // what else the process keeps
	medium  *medium        // what the disk is, for those who count copies
	rng     *rand.Rand     // of power cuts
	flushes *rand.Rand     // of how long flushes take
	sync    time.Duration  // a flush takes so long, at most
	process *process       // nil: none
	waits   uint64         // what it had not forwarded when it was last asked,
	since   time.Time      // and since when that is so
	rolled  bool           // back to an image: it may hold less of a ledger of its own than Kafka
	gone    bool           // for good
	acked   chan struct{}  // one slot: a device was told that it has a message
	mixed   bool           // the disk was lost or changed: devices may be out of order
}

// A medium is a disk as one thing, which can be lost with all that was on it.
type medium struct {
	lost bool
	from time.Time // what was acknowledged before is not lost
}

// An image is what was on a card at some time.
type image struct {
	host *host
	id   tributary.NodeID
	disk *disktest.Disk
	dir  string
	at   time.Time
}

// A process is one life of a gateway.
type process struct {
	host *host
	port *port
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex // guards what follows
	node   *edge.Node // nil while it opens
	short  bool
	shorts int // how often it became short
	ending bool
}

func (h *host) address(port int) string { return net.JoinHostPort(h.ip, strconv.Itoa(port)) }

// prepare makes an empty disk that belongs to the site, as a node with a new id.
func (h *host) prepare() {
	h.disk, h.dir = disktest.New(4*logBytes), h.site.newDir()
	db, _, err := meta.Open(h.dir)
	h.site.must(err)
	id, err := db.Start()
	h.site.must(err)
	h.site.must(db.Close())
	_, err = h.site.bundle.Adopt(h.dir, id.Node)
	h.site.must(err)
	h.become(id.Node)
}

// become has devices and gossip know who the host is now.
func (h *host) become(id tributary.NodeID) {
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	h.id, h.medium = id, &medium{}
}

// lose notes that the medium is lost, but for what was acknowledged before a time.
func (h *host) lose(from time.Time) {
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	h.medium.lost, h.medium.from, h.mixed = true, from, true
}

func (h *host) config() *config.Config {
	text := fmt.Sprintf("[node]\nname = %q\ndata_dir = %q\nsite = %q\n[mqtt]\nlisten = [%q]\nallow_anonymous = true\n[site]\nlisten = %q\nadvertise = %q\n"+
		"[kafka]\nbrokers = [%q]\nlinger = \"50ms\"\n%s", h.name, h.dir, siteName, h.address(mqttPort), h.address(peerPort), h.ip, h.site.kafka.address(), h.extra)
	cfg, problems := config.Parse("test.toml", []byte(text))
	if cfg == nil {
		panic(fmt.Sprint(problems))
	}
	cfg.Log.SegmentBytes, cfg.Log.MaxBytes, cfg.Log.MaxPercent = segmentBytes, logBytes, 0 // far below what a file may say
	cfg.Status.Socket = ""
	return cfg
}

// epoch makes of the year 2000, in which a bubble begins, one in which clocks are set.
const epoch = 26 * 365 * 24 * time.Hour

func (h *host) machine(p *port) edge.Machine {
	return edge.Machine{
		Clock: clock.Source{
			Wall:   func() int64 { return time.Now().Add(epoch).UnixMilli() },
			Uptime: func() int64 { return time.Since(h.site.began).Milliseconds() + 1000 },
			Synced: func() bool { return true },
		},
		Folder: func(string) (disk.FS, error) { return &slowDisk{h.disk, h.flush}, nil },
		Listen: p.Listen, Dial: p.DialContext,
		Kafka:   func(c *uplink.Config) { c.Dial, c.Compression = p.DialContext, "none" }, // the finalizers of zstd decoders cannot run outside a bubble
		Members: func(c member.Config) (edge.Members, error) { return h.site.gossip(h, p, c), nil },
	}
}

// flush takes as long as one on this disk.
func (h *host) flush() {
	if h.sync == 0 {
		return
	}
	h.site.mu.Lock()
	d := time.Duration(h.flushes.Int64N(int64(h.sync)))
	if h.flushes.IntN(64) == 0 {
		d *= 10
	}
	h.site.mu.Unlock()
	<-time.After(d)
}

// Start starts the process. It returns at once.
func (h *host) Start() {
	if h.process != nil || h.gone {
		return
	}
	h.site.say("start %s", h.name)
	port := h.site.net.port(h.ip)
	ctx, stop := context.WithCancel(context.Background())
	p := &process{host: h, port: port, stop: stop, done: make(chan struct{})}
	h.site.mu.Lock()
	h.process = p
	h.site.ended = append(h.site.ended, p)
	h.site.mu.Unlock()
	cfg, machine := h.config(), h.machine(port)
	go func() {
		defer close(p.done)
		p.run(ctx, cfg, machine)
	}()
}

func (p *process) run(ctx context.Context, cfg *config.Config, m edge.Machine) {
	n, err := edge.OpenOn(ctx, cfg, slog.New(&journal{p: p}), m)
	if err == nil {
		p.mu.Lock()
		p.node = n
		p.mu.Unlock()
		err = errors.Join(n.Run(ctx), n.Close())
	}
	if err != nil && !p.port.isDead() && !errors.Is(err, context.Canceled) {
		p.host.site.fail("%s ended: %v", p.host.name, err)
	}
}

// opened returns the node, or nil while there is none.
func (h *host) opened() *edge.Node {
	h.site.mu.Lock()
	p := h.process
	h.site.mu.Unlock()
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// Crash ends the process as SIGKILL does: what it has written is there.
func (h *host) Crash() {
	if h.process == nil {
		return
	}
	synctest.Wait()
	h.site.say("crash %s", h.name)
	h.leave(h.disk.Kill())
	h.process.port.kill()
	h.end()
}

// PowerCut ends it with its machine: what it has not flushed is there, or not, or
// garbled.
func (h *host) PowerCut() {
	if h.process == nil {
		return
	}
	synctest.Wait()
	h.site.say("power cut %s", h.name)
	next := h.disk.Crash(h.rng)
	h.disk.Kill()
	h.leave(next)
	h.process.port.powerOff()
	h.end()
}

// leave gives the disk to the next process. What this one still does with it, it does
// with another one.
func (h *host) leave(next *disktest.Disk) {
	h.disk = next
	h.dir = h.site.copyDir(h.dir)
}

func (h *host) end() {
	h.process.stop()
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	h.process = nil
}

// Stop ends it as SIGTERM does, and waits for it.
func (h *host) Stop() {
	p := h.process
	if p == nil {
		return
	}
	h.site.say("stop %s", h.name)
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	p.stop()
	<-p.done
	p.port.kill()
	h.end()
}

// Wipe puts an empty disk in the place of this one: a new node of the site, at the same
// address.
func (h *host) Wipe() {
	h.PowerCut()
	h.site.say("wipe %s", h.name)
	h.lose(time.Time{})
	h.prepare()
}

// Burn destroys the machine for good.
func (h *host) Burn() {
	h.PowerCut()
	h.site.say("burn %s", h.name)
	h.lose(time.Time{})
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	h.gone = true
}

// Image copies what is on the card, as it would be after a power cut.
func (h *host) Image() *image {
	synctest.Wait()
	h.site.say("image of %s", h.name)
	return &image{h, h.id, h.disk.Crash(h.rng), h.site.copyDir(h.dir), time.Now()}
}

// Rollback puts an older image on the card.
func (h *host) Rollback(i *image) {
	h.PowerCut()
	h.site.say("roll %s back to its image of %v", h.name, i.at.Sub(h.site.began))
	h.lose(i.at)
	h.rolled = true
	h.disk, h.dir = i.disk.Crash(h.rng), h.site.copyDir(i.dir)
	h.become(i.id)
}

// Clone makes another host with a copy of the card. Both are off afterwards.
func (h *host) Clone() *host {
	h.PowerCut()
	c := h.site.addHost()
	h.site.say("clone %s as %s", h.name, c.name)
	c.disk, c.dir, c.sync = h.disk.Crash(h.rng), h.site.copyDir(h.dir), h.sync
	c.become(h.id)
	h.site.mu.Lock()
	defer h.site.mu.Unlock()
	h.mixed, c.mixed = true, true
	return c
}

// awaitAck waits until a device is told that the host has a message, if that is soon.
func (h *host) awaitAck() {
	select {
	case <-h.acked:
	default:
	}
	select {
	case <-h.acked:
	case <-time.After(3 * time.Second):
	}
}

// slowDisk is a disk whose flushes take time.
type slowDisk struct {
	disk.FS

	flush func()
}

type slowFile struct {
	disk.File

	flush func()
}

// Create implements disk.FS.
func (d *slowDisk) Create(name string) (disk.File, error) {
	f, err := d.FS.Create(name)
	return &slowFile{f, d.flush}, err
}

// Open implements disk.FS.
func (d *slowDisk) Open(name string, write bool) (disk.File, error) {
	f, err := d.FS.Open(name, write)
	return &slowFile{f, d.flush}, err
}

// Sync implements disk.FS.
func (d *slowDisk) Sync() error {
	d.flush()
	return d.FS.Sync()
}

// Sync implements disk.File.
func (f *slowFile) Sync() error {
	f.flush()
	return f.File.Sync()
}

// newDir returns an empty directory, which is removed with the site.
func (s *site) newDir() string {
	s.dirs++
	dir := filepath.Join(s.root, strconv.Itoa(s.dirs))
	s.must(os.Mkdir(dir, 0o700))
	return dir
}

func (s *site) copyDir(from string) string {
	to := s.newDir()
	s.must(os.CopyFS(to, os.DirFS(from)))
	return to
}

// journal is where a process logs. What it says of copies is how the test knows what
// an acknowledgement was worth.
type journal struct {
	p     *process
	attrs []slog.Attr
}

// Enabled implements slog.Handler.
func (j *journal) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// Handle implements slog.Handler.
func (j *journal) Handle(_ context.Context, r slog.Record) error {
	switch {
	case strings.HasPrefix(r.Message, "too few peers have copies"):
		j.p.setShort(true)
	case r.Message == "the copies have caught up":
		j.p.setShort(false)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "  %s: %s", j.p.host.name, r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range j.attrs {
		add(a)
	}
	r.Attrs(add)
	j.p.host.site.note(b.String())
	return nil
}

// WithAttrs implements slog.Handler.
func (j *journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journal{j.p, slices.Concat(j.attrs, attrs)}
}

// WithGroup implements slog.Handler.
func (j *journal) WithGroup(string) slog.Handler { return j }

func (p *process) setShort(is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if is {
		p.shorts++
	}
	p.short = is
}
