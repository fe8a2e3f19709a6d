package model

import (
	"math/rand/v2"
	"time"
)

// A Config is a site, its policies, and what happens to it.
type Config struct {
	Nodes, Devices int
	Partitions     int // of the data topic
	MinCopies      int // durable copies that an acknowledgement asks for, the writer's included
	Refuse         bool
	Degrade        time.Duration // T_degrade: after it a node that is short acknowledges alone (R12)
	Strict         bool          // a forwarder waits at a hand-off for ever (R45)
	QoS2           bool          // publishes that are sent again are recognized (R47); else QoS 1
	Commands       bool          // the cloud sends commands (R60)
	TV2            bool          // Kafka has transaction.version 2
	Window         int           // unacknowledged publishes of a device
	RunFor         time.Duration // then all faults end
	Rates          Rates
	Script         func(*world)              // or nil: what happens at which time
	Broken         Break                     // the rules that are not kept
	NotPromised    func(Invariant) bool      // or nil: what the scenario does not ask for
	Expect         func(*world, *Counts) any // or nil: an exact outcome; what is wrong with it, or nil
}

// Rates are probabilities. Faults of the site are drawn twice or three times
// per second, those of messages for each message, those of a disk for each
// flush or once.
type Rates struct {
	Crash, PowerCut, SiteCut, Partition, KafkaOutage float64
	Destroy, Rollback, Clone                         float64
	MaxDestroyed                                     int  // disks wiped or rolled back in one run
	LiveClone                                        bool // a clone has the memory of the process too
	Lying                                            float64
	SlowDisk                                         float64
	Full, SlowLink, SlowNode, Rot                    float64
	Members                                          float64 // nodes that join and are removed
	Move                                             float64 // of each device
	Drop, Spike                                      float64
}

// ordinary returns the site and the faults that most scenarios begin with.
func ordinary(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 1))
	c := Config{
		Nodes: 2 + r.IntN(3), Devices: 3 + r.IntN(4), Partitions: 1 + r.IntN(3), MinCopies: 2,
		RunFor: time.Duration(8+r.IntN(10)) * sec, Window: 1 + r.IntN(4), TV2: r.IntN(2) == 0,
		Degrade: []time.Duration{500 * ms, 1500 * ms, 3 * sec}[r.IntN(3)],
	}
	c.Rates = Rates{
		Drop: 0.02, Spike: 0.02,
		Crash: 0.10, PowerCut: 0.07, SiteCut: 0.02, Partition: 0.10, KafkaOutage: 0.08, Move: 0.15, SlowDisk: 0.03,
	}
	return c
}

// badDisks adds all that can happen to a disk.
func (c *Config) badDisks() {
	c.Rates.Destroy, c.Rates.Rollback, c.Rates.Clone, c.Rates.Lying, c.Rates.MaxDestroyed = 0.03, 0.06, 0.02, 0.2, 2
}

// quiet takes all faults away: a script says what happens.
func (c *Config) quiet() { c.Rates = Rates{} }
