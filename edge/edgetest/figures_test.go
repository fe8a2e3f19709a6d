//go:build lab

package edgetest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSiteFigures measures what a site costs and how soon it helps, with gateways in
// network namespaces and the real Kafka, and prints one table. `make bench-site` runs it.
//
// Environment: REPEATS (of what is measured more than once).
func TestSiteFigures(t *testing.T) {
	repeats := int(setting(t, "REPEATS", 5))
	dir := artifacts(t)
	k := newKafka(t, dir)
	press := buildPress(t, dir)
	var f figureTable
	t.Run("TakeOver", func(t *testing.T) { measureTakeOver(t, &f, dir, k, repeats) })
	t.Run("Idle", func(t *testing.T) { measureIdle(t, &f, dir, k) })
	t.Run("Copies", func(t *testing.T) { measureCopies(t, &f, dir, k, press, repeats) })
	t.Run("CatchUp", func(t *testing.T) { measureCatchUp(t, &f, dir, k, press) })
	t.Logf("figures of a site, on one machine with %d cores:%s", runtime.NumCPU(), strings.Join(f.lines, ""))
	for _, missed := range f.missed {
		t.Errorf("missed: %s", missed)
	}
}

// A figureTable is what was measured, against what is wanted.
type figureTable struct{ lines, missed []string }

// atMost adds a figure with an upper bound.
func (f *figureTable) atMost(name string, got, bound float64, unit string) {
	f.add(name, got, bound, unit, "<=", got <= bound)
}

// atLeast adds a figure with a lower bound.
func (f *figureTable) atLeast(name string, got, bound float64, unit string) {
	f.add(name, got, bound, unit, ">=", got >= bound)
}

func (f *figureTable) add(name string, got, bound float64, unit, relation string, met bool) {
	line := fmt.Sprintf("\n  %-52s %10.2f %-5s wanted %s %.2f", name, got, unit, relation, bound)
	f.lines = append(f.lines, line)
	if !met {
		f.missed = append(f.missed, strings.TrimSpace(line))
	}
}

// note adds a figure that nothing is wanted of.
func (f *figureTable) note(name string, got float64, unit string) {
	f.lines = append(f.lines, fmt.Sprintf("\n  %-52s %10.2f %s", name, got, unit))
}

func median(all []float64) float64 {
	all = slices.Sorted(slices.Values(all))
	return all[len(all)/2]
}

// measureTakeOver kills one of two gateways with the default timers, and measures how
// long after its last transaction the other one has the first of its records in Kafka.
func measureTakeOver(t *testing.T, f *figureTable, dir string, k *kafka, repeats int) {
	t.Helper()
	l := newLab(t, dir, k, labConfig{name: "takeover", nodes: 2, devices: 40, perSecond: 5, seed: 1, policy: policy{topic: "takeover"}})
	l.crowd.start(t)
	var took []float64
	for range repeats {
		l.settleTraffic(t)
		l.settle(t)
		g := l.gateways[1]
		ledger := g.status().Log.Ledger
		g.kill(t)
		died := time.Now()
		l.glance(t, died.Add(time.Second)) // what was under way at Kafka may still be committed
		last := l.witness.sights[len(l.witness.sights)-1].at
		for _, s := range l.witness.sights {
			if s.ledger == ledger {
				last = s.at
			}
		}
		count := l.witness.of(ledger)
		await(t, 2*time.Minute, "the first record from the peer", func() bool {
			l.glance(t, time.Now())
			return l.witness.of(ledger) > count
		})
		took = append(took, time.Since(last).Seconds())
		g.start(t)
		g.awaitReady(t)
		await(t, time.Minute, "copies of the gateway that has returned", g.copied)
	}
	l.end(t)
	f.atMost(fmt.Sprintf("take-over after SIGKILL, p50 of %d", repeats), median(took), 5, "s")
	f.note("  the longest of them", slices.Max(took), "s")
}

// glance looks what is in Kafka, again and again until a time; once at least.
func (l *lab) glance(t *testing.T, until time.Time) {
	t.Helper()
	for {
		if err := l.witness.look(t.Context(), l.crowd); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(until) {
			return
		}
		pass(50 * time.Millisecond)
	}
}

// of counts the records of a ledger that were seen.
func (w *witness) of(ledger string) (n int) {
	for _, s := range w.sights {
		if s.ledger == ledger {
			n++
		}
	}
	return n
}

const (
	settlesFor = 25 * time.Second // sync/member looks for others more often in its first 20 s
	idleFor    = 30 * time.Second
)

// measureIdle counts on the cables what three gateways say to each other when no
// device says anything.
func measureIdle(t *testing.T, f *figureTable, dir string, k *kafka) {
	t.Helper()
	l := newLab(t, dir, k, labConfig{name: "idle", nodes: 3, devices: 1, perSecond: 1, seed: 1, policy: policy{topic: "idle"}})
	for _, g := range l.all() {
		rules := "table inet count { chain in { type filter hook input priority 0; ip saddr " + lan + " counter; };" +
			" chain out { type filter hook output priority 0; ip daddr " + lan + " counter; }; }"
		if err := run(strings.Join(inNamespace(g.place, "nft", "-f", "-"), " "), rules); err != nil {
			t.Fatal(err)
		}
	}
	pass(settlesFor)
	before := map[string][2]float64{}
	for _, g := range l.all() {
		before[g.name] = counted(t, g)
	}
	began := time.Now()
	pass(idleFor)
	seconds := time.Since(began).Seconds()
	in, out := 0.0, 0.0
	for _, g := range l.all() {
		after := counted(t, g)
		in = max(in, (after[0]-before[g.name][0])/seconds)
		out = max(out, (after[1]-before[g.name][1])/seconds)
		unblock(t, g.place, "count")
		g.stop(t, 30*time.Second)
	}
	f.atMost("idle: sent by a node of three to the others", out/1000, 2, "kB/s")
	f.note("  received", in/1000, "kB/s")
}

// ethernet is what a packet has on the cable before IP.
const ethernet = 14

var counterText = regexp.MustCompile(`counter packets (\d+) bytes (\d+)`)

// counted returns the bytes that a gateway has received from the LAN, and sent to it.
func counted(t *testing.T, g *gateway) (inOut [2]float64) {
	t.Helper()
	args := inNamespace(g.place, "nft", "list", "table", "inet", "count")
	out, err := exec.Command(args[0], args[1:]...).Output()
	found := counterText.FindAllSubmatch(out, -1)
	if err != nil || len(found) != 2 {
		t.Fatalf("nft list table: %v\n%s", err, out)
	}
	for i, m := range found {
		packets, _ := strconv.ParseFloat(string(m[1]), 64)
		bytes, _ := strconv.ParseFloat(string(m[2]), 64)
		inOut[i] = bytes + ethernet*packets
	}
	return inOut
}

// pressed is what bench/press prints.
type pressed struct {
	PerSecond float64 `json:"per_second"`
	P50Ms     float64 `json:"p50_ms"`
	P99Ms     float64 `json:"p99_ms"`
}

func buildPress(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(dir, "press")
	cmd := exec.Command("go", "build", "-o", out, "./press")
	cmd.Dir = filepath.Join(repository(), "bench")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build bench/press: %v\n%s", err, text)
	}
	return out
}

func runPress(t *testing.T, press, door string, args ...string) (p pressed) {
	t.Helper()
	cmd := exec.Command(press, append([]string{"-broker", door}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &p)
	}
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return p
}

// measureCopies presses a gateway whose peer keeps copies, and one that is alone, in
// turn. Kafka is away for both.
func measureCopies(t *testing.T, f *figureTable, dir string, k *kafka, press string, repeats int) {
	t.Helper()
	l := newLab(t, dir, k, labConfig{name: "copies", nodes: 2, devices: 1, perSecond: 1, seed: 1, policy: policy{topic: "copies", refuse: true}})
	const third = 3
	alone := newNode(t, l.dir, placeOf(third), l.binary, doorOf(third), "")
	alone.place = placeOf(third)
	alone.start(t)
	alone.awaitReady(t)
	for n := 1; n <= third; n++ {
		swallow(t, n)
	}
	var rates, latencies []float64
	var pair, single pressed
	for range repeats {
		single = runPress(t, press, alone.mqtt)
		pair = runPress(t, press, l.gateways[1].mqtt)
		t.Logf("alone %+v, with a copy %+v", single, pair)
		rates = append(rates, pair.PerSecond/single.PerSecond)
		latencies = append(latencies, pair.P50Ms/single.P50Ms)
	}
	f.atMost("copies = 1: PUBACK p50 at 100 x 20, of one alone", median(latencies), 2, "x")
	f.atLeast("copies = 1: throughput at 100 x 20, of one alone", median(rates), 0.6, "x")
	f.note("  the last with a copy", pair.PerSecond, fmt.Sprintf("/s, p50 %.1f ms, p99 %.1f ms", pair.P50Ms, pair.P99Ms))
	f.note("  the last alone", single.PerSecond, fmt.Sprintf("/s, p50 %.1f ms, p99 %.1f ms", single.P50Ms, single.P99Ms))
	alone.kill(t)
	for _, g := range l.all() {
		g.kill(t)
	}
}

const (
	catchUpBytes   = 1 << 30
	catchUpMessage = 64 << 10
)

// measureCatchUp lets a gateway take 1 GiB that cannot go to Kafka, lets another one
// join, and measures how long it takes to have a copy.
func measureCatchUp(t *testing.T, f *figureTable, dir string, k *kafka, press string) {
	t.Helper()
	if err := layLAN(); err != nil {
		t.Fatal(err)
	}
	mend(t)
	dir = filepath.Join(dir, "catchup")
	if err := os.Mkdir(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	l := &lab{labConfig: labConfig{name: "catchup", policy: policy{topic: "catchup"}}, dir: dir, kafka: k, gateways: []*gateway{nil}}
	l.binary = build(t, dir, "cmd/tributary", "")
	a := l.add(t)
	swallow(t, 1)
	swallow(t, 2)
	runPress(t, press, a.mqtt, "-conns", "4", "-window", "8", "-size", fmt.Sprint(catchUpMessage), "-total", fmt.Sprint(catchUpBytes/catchUpMessage))
	b := l.add(t)
	began, end := time.Time{}, time.Time{}
	await(t, 5*time.Minute, "a copy of 1 GiB", func() bool {
		r := b.status()
		if r == nil || len(r.Gateways.Copies) == 0 {
			return false
		}
		if began.IsZero() {
			began = time.Now()
		}
		end = time.Now()
		return r.Gateways.Copies[0].To >= catchUpBytes/catchUpMessage
	})
	took := end.Sub(began).Seconds()
	a.kill(t)
	b.kill(t)
	const mib = 1 << 20
	wire, disk := rawTCP(t), rawDisk(t, dir)
	rate := catchUpBytes / mib / took
	f.atLeast("catch-up of 1 GiB, of the smaller of TCP and disk", rate/min(wire, disk), 0.5, "x")
	f.note("  catch-up", rate, "MiB/s")
	f.note("  raw TCP between the two", wire, "MiB/s")
	f.note("  raw disk: write of 1 GiB and one flush", disk, "MiB/s")
}

// rawTCP sends 1 GiB from the first gateway's namespace to the second's, and returns
// MiB/s.
func rawTCP(t *testing.T) float64 {
	t.Helper()
	type opened struct {
		listener net.Listener
		conn     net.Conn
		err      error
	}
	// A thread that is in another namespace is of no use to others: it ends with
	// its goroutine, and the socket stays where it was made.
	within := func(place string, open func() opened) opened {
		result := make(chan opened)
		go func() {
			runtime.LockOSThread()
			ns, err := os.Open("/run/netns/" + place)
			if err == nil {
				err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			}
			if err != nil {
				result <- opened{err: err}
				return
			}
			result <- open()
		}()
		return <-result
	}
	in := within(placeOf(2), func() opened {
		l, err := net.Listen("tcp", ipOf(2)+":9999")
		return opened{listener: l, err: err}
	})
	if in.err != nil {
		t.Fatal(in.err)
	}
	defer func() { _ = in.listener.Close() }()
	read := make(chan int64)
	go func() {
		c, err := in.listener.Accept()
		if err != nil {
			read <- 0
			return
		}
		n, _ := io.Copy(io.Discard, struct{ io.Reader }{c})
		read <- n
	}()
	out := within(placeOf(1), func() opened {
		c, err := net.Dial("tcp", ipOf(2)+":9999")
		return opened{conn: c, err: err}
	})
	if out.err != nil {
		t.Fatal(out.err)
	}
	began := time.Now()
	block := make([]byte, 1<<20)
	for range catchUpBytes >> 20 {
		if _, err := out.conn.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	_ = out.conn.Close()
	if n := <-read; n != catchUpBytes {
		t.Fatalf("%d bytes have arrived", n)
	}
	return float64(catchUpBytes>>20) / time.Since(began).Seconds()
}

// rawDisk writes 1 GiB into a file and flushes it, and returns MiB/s.
func rawDisk(t *testing.T, dir string) float64 {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(file.Name()) }()
	noise := make([]byte, 1<<20)
	_, _ = rand.Read(noise)
	began := time.Now()
	for range catchUpBytes >> 20 {
		if _, err := file.Write(noise); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.Sync(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return float64(catchUpBytes>>20) / took.Seconds()
}
