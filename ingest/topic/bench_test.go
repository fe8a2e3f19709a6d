package topic

import (
	"fmt"
	"testing"
)

// The topics of a fleet of devices: more than a tree remembers, if all of them
// come in turn.
func deviceTopics(n int) [][]byte {
	topics := make([][]byte, n)
	for i := range topics {
		topics[i] = fmt.Appendf(nil, "plant/%d/device/%d/tele/temperature", i%10, i)
	}
	return topics
}

func benchTrees() map[string]*Tree[int] {
	one, two, thousand, each := NewTree[int](), NewTree[int](), NewTree[int](), NewTree[int]()
	one.Subscribe(0, Subscription{Filter: "plant/+/device/+/tele/#", QoS: 1})
	two.Subscribe(0, Subscription{Filter: "plant/#", QoS: 1})
	two.Subscribe(1, Subscription{Filter: "plant/+/device/+/tele/#", QoS: 1})
	for i := range 1000 {
		thousand.Subscribe(i, Subscription{Filter: "plant/#", QoS: 1, ID: 1})
	}
	for i := range 10000 {
		each.Subscribe(i, Subscription{Filter: fmt.Sprintf("plant/%d/device/%d/command/#", i%10, i), QoS: 1})
	}
	return map[string]*Tree[int]{
		"1 subscriber": one, "2 subscribers": two, "1000 subscribers": thousand, "10000 filters": each, "none": NewTree[int](),
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		topics := deviceTopics(n)
		for name, tree := range benchTrees() {
			b.Run(fmt.Sprintf("%s/%d topics", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					tree.MatchBytes(topics[i%n])
				}
			})
		}
	}
}

// A fleet that connects: each subscribes to its own commands and to those for all.
func BenchmarkSubscribe(b *testing.B) {
	b.ReportAllocs()
	filters := make([]string, 10000)
	for i := range filters {
		filters[i] = fmt.Sprintf("plant/%d/device/%d/command/#", i%10, i)
	}
	tree := NewTree[int]()
	for i := 0; b.Loop(); i++ {
		n := i % len(filters)
		if n == 0 {
			tree = NewTree[int]()
		}
		tree.Subscribe(n, Subscription{Filter: filters[n]})
		tree.Subscribe(n, Subscription{Filter: "all/command"})
	}
}

func BenchmarkRetainedMatch(b *testing.B) {
	r := NewRetained[int]()
	for i, topic := range deviceTopics(10000) {
		r.Set(string(topic), i)
	}
	for _, filter := range []string{"plant/7/device/777/#", "plant/+/device/777/tele/+", "#"} {
		b.Run(filter, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Match(filter, func(string, int) bool { return true })
			}
		})
	}
}
