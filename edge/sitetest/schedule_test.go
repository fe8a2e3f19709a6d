package sitetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"testing"
	"time"
)

// I1, I2, I3, I5, I7, I8, I9: whatever is cut, crashes, loses its power or its disk, is
// rolled back or copied, once all is well again every record that was acknowledged is
// in Kafka, once, unless all copies that counted are gone.
//
//	SEED=7 go test -run '^TestSite$' ./edge/sitetest/    that schedule again, some times: how goroutines take turns is not in the seed
//	make test-site SEEDS=20000
func TestSite(t *testing.T) {
	from, n, times := uint64(setting(t, "FROM", 1)), uint64(setting(t, "SEEDS", 20)), 1
	if seed := setting(t, "SEED", 0); seed > 0 {
		from, n, times = uint64(seed), 1, int(setting(t, "TIMES", 20))
	}
	if testing.Short() {
		n = min(n, 10)
	}
	if n >= manySeeds && runtime.GOMAXPROCS(0) > 1 {
		inParallel(t, from, n)
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(800)) // many small sites
	began := time.Now()
	var did figures
	for seed := from; seed < from+n && !t.Failed(); seed++ {
		for range times {
			d := bubble(t, seed, func(s *site) { schedule(s) })
			did.add(&d)
		}
	}
	t.Logf("%d schedules, %d events, %d messages acknowledged (%d of them lost with all the disks that counted), %d twice because a device sent them again; violations: 0; %v of them, in %v",
		n, did.events, did.acked, did.excused, did.twice, did.passed.Round(time.Second), time.Since(began).Round(time.Millisecond))
}

// manySeeds are worth a process for each processor: what is random in one is random for
// all of it, so bubbles cannot run beside each other.
const manySeeds = 500

// inParallel has other processes run the seeds, each with one processor.
func inParallel(t *testing.T, from, n uint64) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context()) // at the first failure
	defer stop()
	var all sync.WaitGroup
	parts := uint64(runtime.GOMAXPROCS(0))
	for i := range parts {
		begin, end := from+n*i/parts, from+n*(i+1)/parts
		all.Go(func() {
			defer func() {
				if t.Failed() {
					stop()
				}
			}()
			c := exec.CommandContext(ctx, self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "0")
			c.Env = append(os.Environ(), "GOMAXPROCS=1", fmt.Sprintf("FROM=%d", begin), fmt.Sprintf("SEEDS=%d", end-begin))
			out, err := c.CombinedOutput()
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Errorf("seeds %d to %d: %v\n%s", begin, end-1, err, out)
				return
			}
			t.Logf("seeds %d to %d:\n%s", begin, end-1, out)
		})
	}
	all.Wait()
}

func (f *figures) add(g *figures) {
	f.events += g.events
	f.acked += g.acked
	f.excused += g.excused
	f.twice += g.twice
	f.passed += g.passed
}

func setting(t *testing.T, name string, preset int64) int64 {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok || text == "" {
		return preset
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		t.Fatalf("%s=%q is not a number of 0 or more", name, text)
	}
	return n
}

// schedule runs a random schedule.
func schedule(s *site) {
	size := 2 + s.rng.IntN(5)/3 // now and then three
	if s.rng.IntN(6) == 0 {
		s.extra = "[ack]\nif_peers_missing = \"refuse\"\n"
	}
	for range size {
		h := s.add()
		h.sync = s.oneOf(0, 2*time.Millisecond, 10*time.Millisecond, 40*time.Millisecond)
	}
	s.delays()
	for _, h := range s.hosts {
		h.Start()
	}
	s.pass(s.rngDuration(5 * time.Second))
	for _, h := range s.hosts[:size] {
		for range 1 + s.rng.IntN(2) {
			if s.rng.IntN(6) == 0 {
				s.device(nil, 1, time.Second) // it walks about: hand-off is not tested here
				continue
			}
			s.device(h, byte(1+s.rng.IntN(3)/2), s.oneOf(300*time.Millisecond, 1500*time.Millisecond, 5*time.Second))
		}
	}
	f := &faults{site: s, size: size}
	for range 3 + s.rng.IntN(6) {
		s.pass(s.rngDuration(s.oneOf(100*time.Millisecond, 100*time.Millisecond, time.Second, 3*time.Second, 6*time.Second, 12*time.Second, 40*time.Second)))
		f.next()
		if s.hasFailed() {
			return
		}
	}
	s.CheckNoLoss()
}

func (s *site) oneOf(all ...time.Duration) time.Duration { return all[s.rng.IntN(len(all))] }

// delays makes some ways slow.
func (s *site) delays() {
	for i, h := range s.hosts {
		if s.rng.IntN(2) == 0 {
			s.net.slow(h.ip, kafkaHost, time.Duration(1+s.rng.IntN(100))*time.Millisecond)
		}
		for _, o := range s.hosts[:i] {
			if s.rng.IntN(2) == 0 {
				s.net.slow(h.ip, o.ip, time.Duration(1+s.rng.IntN(30))*time.Millisecond)
			}
		}
	}
}

// faults chooses what happens.
type faults struct {
	*site

	size   int      // hosts that are no clones
	images []*image // of hosts[i], nil for none
	losses int      // disks that were lost
}

// next does something that can be done.
func (f *faults) next() {
	h := f.hosts[f.rng.IntN(len(f.hosts))]
	o := f.hosts[f.rng.IntN(len(f.hosts))]
	switch k := f.rng.IntN(100); {
	case k < 25 && h.process != nil:
		f.endSomehow(h)
	case k < 45:
		h.Start()
	case k < 52 && h != o:
		f.say("cut %s from %s", h.name, o.name)
		f.Cut(h.ip, o.ip)
	case k < 56 && h != o:
		f.say("cut the way from %s to %s", h.name, o.name)
		f.net.cut(h.ip, o.ip)
	case k < 64:
		f.say("cut %s from Kafka", h.name)
		f.Cut(h.ip, kafkaHost)
	case k < 67:
		f.say("cut the way from Kafka to %s", h.name)
		f.net.cut(kafkaHost, h.ip)
	case k < 70:
		f.say("cut all from Kafka")
		for _, h := range f.hosts {
			f.Cut(h.ip, kafkaHost)
		}
	case k < 77:
		f.say("heal %s and Kafka", h.name)
		f.Heal(h.ip, kafkaHost)
	case k < 84:
		f.say("heal all ways of %s", h.name)
		f.Heal(h.ip, kafkaHost)
		for _, o := range f.hosts {
			f.Heal(h.ip, o.ip)
		}
	case k < 86:
		f.say("all lose their power")
		for _, h := range f.hosts {
			h.PowerCut()
		}
	case k < 92 && f.losses < 2:
		f.lose(h)
	case k < 94 && len(f.images) < 2:
		if h.process != nil {
			f.images = append(f.images, h.Image())
		}
	case k < 96 && f.losses < 2:
		f.rollback()
	case k < 98 && len(f.hosts) == f.size && h.process != nil:
		c := h.Clone()
		h.Start()
		c.Start()
	default:
		f.pass(f.rngDuration(10 * time.Second))
	}
}

func (f *faults) endSomehow(h *host) {
	if f.rng.IntN(3) == 0 {
		h.awaitAck() // the worst moment: whoever was told relies on it
	}
	switch f.rng.IntN(5) {
	case 0, 1:
		h.Crash()
	case 2, 3:
		h.PowerCut()
	default:
		h.Stop()
	}
	if f.rng.IntN(3) == 0 {
		h.Start()
	}
}

// lose destroys a disk, now and then at the moment when all others lose their power.
func (f *faults) lose(h *host) {
	if h.process == nil {
		return
	}
	f.losses++
	if f.rng.IntN(4) > 0 {
		h.awaitAck()
	}
	if f.rng.IntN(2) == 0 {
		for _, o := range f.hosts {
			if o != h {
				o.PowerCut()
			}
		}
	}
	if f.rng.IntN(3) == 0 && f.size > 1 {
		f.size--
		h.Burn()
		return
	}
	h.Wipe()
}

// rollback puts an image on the card that it is of.
func (f *faults) rollback() {
	for _, i := range f.images {
		if !i.host.gone {
			f.losses++
			i.host.Rollback(i)
			return
		}
	}
}
