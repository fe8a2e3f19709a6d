package model

import (
	"math/rand/v2"
	"slices"
)

// A Scenario is a site and its faults.
type Scenario struct {
	Name   string
	About  string
	Set    func(c *Config, seed uint64) // changes an ordinary site
	Within int                          // of a broken variant: a violation is found in so many seeds
}

// Exact are the scenarios whose outcome is known exactly: a script makes the
// faults, and only the network's delays are random.
func Exact() []Scenario {
	return slices.Concat(copiesExact, kafkaExact, devicesExact, trapsExact)
}

// Random are the scenarios that the protocol has to bear.
var Random = []Scenario{
	{Name: "all", About: "every fault of the site and its disks", Set: func(c *Config, _ uint64) { c.badDisks() }},
	{Name: "nodisk", About: "every fault but those of disks", Set: func(*Config, uint64) {}},
	{Name: "refuse", About: "every fault; nodes that are short refuse", Set: func(c *Config, _ uint64) {
		c.badDisks()
		c.Refuse = true
	}},
	{Name: "qos2", About: "every fault, QoS 2", Set: func(c *Config, _ uint64) {
		c.badDisks()
		c.QoS2 = true
	}},
	{Name: "qos2_nodisk", About: "QoS 2 on honest disks", Set: func(c *Config, _ uint64) { c.QoS2 = true }},
	{Name: "calm", About: "devices that roam, and few faults", Set: func(c *Config, seed uint64) {
		c.calm()
		c.QoS2 = seed%2 == 0
	}},
	{Name: "onedisk", About: "one disk is lost, and nodes refuse: nothing may be lost", Set: func(c *Config, _ uint64) {
		c.Rates.Destroy, c.Rates.Rollback, c.Rates.MaxDestroyed = 0.05, 0.05, 1
		c.Refuse = true
		c.Expect = func(_ *world, n *Counts) any {
			if n.Lost > 0 {
				return "acknowledged records are gone with one disk"
			}
			return nil
		}
	}},
	{Name: "wide", About: "two to six nodes, one to three copies, a bad network", Set: wide},
	{Name: "forwardtail", About: "owners forward what is not acknowledged, copies what is not flushed: QoS 1 does not need R22", Set: func(c *Config, seed uint64) {
		c.badDisks()
		if seed%2 == 0 {
			c.Broken |= ForwardUnacked
		}
		if seed%3 != 0 {
			c.Broken |= ForwardUnflushed
		}
	}},
	{Name: "commands", About: "commands to devices, with every fault", Set: func(c *Config, seed uint64) {
		c.badDisks()
		c.Commands = true
		c.QoS2 = seed%2 == 0
	}},
	{Name: "commands_calm", About: "commands to devices that roam", Set: func(c *Config, _ uint64) {
		c.calm()
		c.Commands = true
	}},
	{Name: "single", About: "one node alone", Set: func(c *Config, _ uint64) {
		c.Nodes, c.MinCopies, c.Rates.Partition = 1, 1, 0
		c.Expect = neverFlags
	}},
	{Name: "lying", About: "disks that lie", Set: func(c *Config, _ uint64) { c.Rates.Lying = 0.3 }},
	{Name: "image", About: "disks that are rolled back", Set: func(c *Config, _ uint64) { c.Rates.Rollback, c.Rates.MaxDestroyed = 0.08, 2 }},
	{Name: "strict", About: "forwarders that never give up on a hand-off", Set: func(c *Config, _ uint64) { c.Strict = true }},
	{Name: "nolease", About: "without leases more is flagged, and nothing breaks", Set: func(c *Config, _ uint64) { c.Broken = NoLease }},
	{Name: "slow", About: "slow links, slow disks, and nodes that take no copies", Set: func(c *Config, seed uint64) {
		c.lesser()
		c.QoS2 = seed%2 == 0
	}},
	{Name: "rot", About: "the same, and copies that rot", Set: func(c *Config, seed uint64) {
		c.lesser()
		c.Rates.Rot = 0.08
		c.Refuse = seed%2 == 0
	}},
	{Name: "members", About: "nodes that join and are removed", Set: func(c *Config, seed uint64) {
		c.Rates.Members = 0.08
		c.QoS2, c.Refuse = seed%2 == 0, seed%3 == 0
	}},
	{Name: "worst", About: "two to six nodes, and every fault at once", Set: func(c *Config, seed uint64) {
		wide(c, seed)
		c.lesser()
		c.Rates.Members, c.Rates.Rot = 0.05, 0.03
		c.QoS2, c.Commands = seed%2 == 0, seed%3 == 0
	}},
	{Name: "liveclone", About: "running processes are duplicated: unsupported, so I1 and I3 are not promised", Set: liveClone},
}

// calm is a site with few faults whose devices roam.
func (c *Config) calm() {
	c.Rates.Crash, c.Rates.PowerCut, c.Rates.SiteCut, c.Rates.Partition, c.Rates.KafkaOutage = 0.02, 0.01, 0, 0, 0.05
	c.Rates.Move = 0.5
}

// lesser adds what is slow or full.
func (c *Config) lesser() {
	c.Rates.Full, c.Rates.SlowLink, c.Rates.SlowNode = 0.08, 0.15, 0.10
}

func wide(c *Config, seed uint64) {
	c.badDisks()
	r := rand.New(rand.NewPCG(seed, 2))
	c.Nodes = 2 + r.IntN(5)
	c.MinCopies = 1 + r.IntN(min(3, c.Nodes))
	c.Refuse = r.IntN(2) == 0
	c.Rates.Drop = r.Float64() * 0.15
	c.Rates.Spike = r.Float64() * 0.10
	c.Devices = 2 + r.IntN(8)
	c.Rates.MaxDestroyed = 1 + r.IntN(4)
}

func liveClone(c *Config, _ uint64) {
	c.Rates.LiveClone, c.Rates.Clone = true, 0.1
	c.Rates.Crash, c.Rates.PowerCut, c.Rates.SiteCut = 0, 0, 0
	c.NotPromised = func(i Invariant) bool { return i == I1 || i == I3 || i == I4 }
}
