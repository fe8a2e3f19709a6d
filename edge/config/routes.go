package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tributary-edge/tributary/ingest/route"
)

// fillUrgent makes the alarm routes urgent that say nothing else.
func (r *reader) fillUrgent() {
	for i, read := range r.routes {
		if _, says := read.seen["urgent"]; !says {
			r.config.Routes[i].Urgent = r.config.Routes[i].Alarm
		}
	}
}

// checkRoutes compiles the routes and puts what is wrong with them where it
// stands in the file.
func (r *reader) checkRoutes() {
	c := r.config
	var rules []route.Rule
	var reads []*routeRead // of rules
	for i, read := range r.routes {
		r.checkComplete(i, read)
		if !read.wrong {
			rules, reads = append(rules, c.Routes[i]), append(reads, read)
		}
	}
	table, err := route.Compile(rules, route.Rule{Topic: c.DefaultRoute.Topic, Key: c.DefaultRoute.Key}, route.Facts{
		Node:       c.Node.Name,
		Site:       c.Node.Site,
		DeadLetter: c.DefaultRoute.DeadLetter,
		Reserved:   []string{c.Kafka.PositionsTopic},
	})
	if wrong, ok := errors.AsType[*route.CompileError](err); ok {
		for _, f := range wrong.Faults {
			// A default that is wrong can only be in the way of the positions.
			at, title := r.place("default_route."+f.Field, "kafka.positions_topic"), "[default_route]"
			if f.Rule != route.Fallback {
				at, title = reads[f.Rule].place(f.Field), "[[route]]"
			}
			r.errorAt(at, fmt.Sprintf("%s %s: %s", title, f.Field, f.Reason), "")
		}
		return
	}
	c.Table = table
	r.warnOfCovered(table, reads)
	for i, read := range reads {
		r.warnOfManyTopics("[[route]]", rules[i].Topic, read.place("topic"))
	}
	r.warnOfManyTopics("[default_route]", c.DefaultRoute.Topic, r.place("default_route.topic"))
}

// place returns where key is set, else the header of the route.
func (r *routeRead) place(key string) span {
	if at, ok := r.seen[key]; ok {
		return at
	}
	return r.at
}

// checkComplete checks that a route has the keys that have no default.
func (r *reader) checkComplete(i int, read *routeRead) {
	for _, f := range []struct{ key, hint string }{
		{"match", `match = "plant/{line}/#"`},
		{"topic", `topic = "telemetry", or topic = "" to keep these messages on this node`},
	} {
		if _, ok := read.seen[f.key]; ok {
			continue
		}
		read.wrong = true
		if !r.partial && !r.failedAt(routePath(i, f.key)) {
			r.errorAt(read.at, "[[route]] needs "+f.key, f.hint)
		}
	}
}

// warnOfCovered warns of routes that never win.
func (r *reader) warnOfCovered(table *route.Table, reads []*routeRead) {
	for i, read := range reads {
		if by, covered := table.Covered(i); covered {
			r.warnAt(read.place("match"),
				fmt.Sprintf("[[route]] match: never gets a message, because the route on %s takes them all", r.doc.where(reads[by].at.from, read.at.from)),
				"the first route that matches wins: put the narrower one first")
		}
	}
}

// warnOfManyTopics warns of a topic template that lets devices make up topics.
func (r *reader) warnOfManyTopics(title, template string, at span) {
	for _, variable := range []string{"{topic}", "{client_id}", "{username}"} {
		if r.config.Kafka.CreateTopics && strings.Contains(template, variable) {
			r.warnAt(at, fmt.Sprintf("%s topic: %s lets devices create any number of topics in Kafka", title, variable),
				"use it in key, or set create_topics = false under [kafka]")
		}
	}
}
