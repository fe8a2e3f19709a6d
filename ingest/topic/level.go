package topic

import "strings"

// A level is one level of a topic or filter, with the levels that follow it. The
// path from the root to it is a topic or a filter, and value is what is held for
// that, or nil. A topic of n levels is n steps below the root, also where levels
// are empty, and so the root never has a value.
//
// All that walks does so in a loop: topics come from outside, and may have 65,536
// levels.
type level[T any] struct {
	parent *level[T] // nil for the root
	name   string
	single *level[T]            // what follows as '+'
	multi  *level[T]            // what follows as '#'
	next   map[string]*level[T] // what follows and is no wildcard; nil for none
	value  *T
}

// at returns what is at path, or nil.
func (l *level[T]) at(path string) *level[T] {
	for more := true; more && l != nil; {
		var name string
		name, path, more = strings.Cut(path, "/")
		switch name {
		case "+":
			l = l.single
		case "#":
			l = l.multi
		default:
			l = l.next[name]
		}
	}
	return l
}

// grow returns what is at path, and makes the levels that are not there. Who
// calls gives it a value, or calls prune.
func (l *level[T]) grow(path string) *level[T] {
	for more := true; more; {
		var name string
		name, path, more = strings.Cut(path, "/")
		switch {
		case name == "+":
			if l.single == nil {
				l.single = &level[T]{parent: l, name: "+"}
			}
			l = l.single
		case name == "#":
			if l.multi == nil {
				l.multi = &level[T]{parent: l, name: "#"}
			}
			l = l.multi
		case l.next[name] != nil:
			l = l.next[name]
		default:
			if l.next == nil {
				l.next = map[string]*level[T]{}
			}
			name = strings.Clone(name) // a level outlives the path that made it
			l.next[name] = &level[T]{parent: l, name: name}
			l = l.next[name]
		}
	}
	return l
}

// prune removes l and its parents, as far as they hold nothing and lead nowhere.
func (l *level[T]) prune() {
	for l.parent != nil && l.value == nil && l.leaf() {
		p := l.parent
		switch l.name {
		case "+":
			p.single = nil
		case "#":
			p.multi = nil
		default:
			delete(p.next, l.name)
			if len(p.next) == 0 {
				p.next = nil // an emptied map keeps its memory
			}
		}
		l = p
	}
}

func (l *level[T]) leaf() bool {
	return l.single == nil && l.multi == nil && l.next == nil
}

// meaning appends to found the values of all filters below the root l that mean
// topic.
func (l *level[T]) meaning(topic string, found []*T) []*T {
	var one, other [16]*level[T] // on the stack
	here, below := append(one[:0], l), other[:0]
	wild := !strings.HasPrefix(topic, "$") // MQTT 5, 4.7.2
	for more := true; more && len(here) > 0; wild = true {
		var name string
		name, topic, more = strings.Cut(topic, "/")
		below = below[:0]
		for _, l := range here {
			if wild && l.multi != nil {
				found = l.multi.held(found)
			}
			if wild && l.single != nil {
				below = append(below, l.single)
			}
			if n := l.next[name]; n != nil {
				below = append(below, n)
			}
		}
		here, below = below, here
	}
	for _, l := range here {
		found = l.held(found)
		if l.multi != nil { // '#' stands for its parent too
			found = l.multi.held(found)
		}
	}
	return found
}

// meant appends to found the values of all topics below the root l that filter
// means.
func (l *level[T]) meant(filter string, found []*T) []*T {
	here := []*level[T]{l}
	for more := true; more && len(here) > 0; {
		var name string
		name, filter, more = strings.Cut(filter, "/")
		if name == "#" {
			if more {
				return found // not a filter that MQTT allows
			}
			return all(here, found)
		}
		var below []*level[T]
		for _, l := range here {
			if name == "+" {
				below = l.children(below)
			} else if n := l.next[name]; n != nil {
				below = append(below, n)
			}
		}
		here = below
	}
	for _, l := range here {
		found = l.held(found)
	}
	return found
}

// all appends to found the values of levels and of all below them.
func all[T any](levels []*level[T], found []*T) []*T {
	for len(levels) > 0 {
		l := levels[len(levels)-1]
		levels = l.children(levels[:len(levels)-1])
		found = l.held(found)
	}
	return found
}

// children appends to levels what a wildcard that follows l means (MQTT 5, 4.7.2).
func (l *level[T]) children(levels []*level[T]) []*level[T] {
	for name, n := range l.next {
		if l.parent != nil || !strings.HasPrefix(name, "$") {
			levels = append(levels, n)
		}
	}
	return levels
}

func (l *level[T]) held(found []*T) []*T {
	if l.value == nil {
		return found
	}
	return append(found, l.value)
}
