//go:build attack

package attack

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
)

// TestRandomPackets attacks S1 for FUZZTIME with conversations of random packets,
// randomly damaged. They meet each other in sessions, subscriptions, retained
// messages and wills: their client ids and topics are few. It does not know what
// it reaches in the node; the fuzz targets of ingest/packet do.
func TestRandomPackets(t *testing.T) {
	long(t)
	limit := time.Minute
	if text := os.Getenv("FUZZTIME"); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	rng := seeded(t)
	n := startNode(t, setup{mqtt: "max_clients = 100"}) // and so 400 sessions, which damaged client ids soon fill
	b := stand(t, n, hello{id: "bystander"}, 5*time.Millisecond)
	pool := [][]seed{seeds(4), seeds(5)}
	start := time.Now()
	sent, bytes := 0, 0
	var sizes []int
	const parts = 10
	for part := range parts {
		end := start.Add(limit * time.Duration(part+1) / parts)
		sent += attackWith(t, n, func() (input, bool) {
			in := conversation(rng, pool)
			bytes += len(in)
			return input{"random", in}, time.Now().Before(end)
		})
		sizes = append(sizes, n.rss(t))
	}
	took := time.Since(start)
	text := ""
	for _, size := range sizes {
		text += " " + mb(size)
	}
	t.Logf("%d conversations, %s, in %v (%.0f/s); RSS over time:%s; load %s",
		sent, mb(bytes), took.Round(time.Second), float64(sent)/took.Seconds(), text, load())
	// By the middle the heap has had its largest collection.
	if warm, end := slices.Max(sizes[:parts/2]), slices.Max(sizes[parts/2:]); end > warm*11/10+4<<20 {
		t.Errorf("RSS grows: at most %s in the first half, %s in the second", mb(warm), mb(end))
	}
	b.leave(t, stormLimit)
}

// conversation returns a CONNECT as a rule, and up to eight packets, of which one
// or more are damaged.
func conversation(rng *rand.Rand, pool [][]seed) []byte {
	v := rng.IntN(2)
	var packets [][]byte
	if rng.IntN(8) > 0 {
		packets = append(packets, hello{
			id: fmt.Sprintf("fuzz-%d", rng.IntN(20)), version: byte(4 + v), keep: rng.IntN(2) == 0,
		}.packet())
	}
	for range 1 + rng.IntN(8) {
		if rng.IntN(16) == 0 {
			v = 1 - v // the packets of the other version
		}
		packets = append(packets, slices.Clone(pool[v][rng.IntN(len(pool[v]))].bytes))
	}
	for range rng.IntN(4) {
		i := rng.IntN(len(packets))
		packets[i] = damage(rng, packets[i], packets[rng.IntN(len(packets))])
	}
	return slices.Concat(packets...)
}

// damage returns a packet with one thing changed; other lends bytes.
func damage(rng *rand.Rand, p, other []byte) []byte {
	p = slices.Clone(p)
	if len(p) == 0 {
		return p
	}
	at := rng.IntN(len(p))
	switch rng.IntN(8) {
	case 0:
		p[at] ^= 1 << rng.IntN(8)
	case 1:
		p[at] = byte(rng.Uint32())
	case 2:
		p = p[:at]
	case 3:
		p = slices.Insert(p, at, byte(rng.Uint32()))
	case 4:
		p = slices.Delete(p, at, min(len(p), at+1+rng.IntN(4)))
	case 5: // a part of another packet
		from := rng.IntN(len(other) + 1)
		p = slices.Insert(p, at, other[from:min(len(other), from+rng.IntN(32))]...)
	case 6: // another length
		if len(p) > 1 {
			p[1] = byte(rng.IntN(len(p) + 8))
		}
	case 7: // a body of random bytes
		for i := min(2, len(p)); i < len(p); i++ {
			p[i] = byte(rng.Uint32())
		}
	}
	return p
}
