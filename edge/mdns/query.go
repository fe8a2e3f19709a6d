package mdns

import (
	"errors"

	"golang.org/x/net/dns/dnsmessage"
)

// A query is what somebody asks.
type query struct {
	id        uint16
	questions []dnsmessage.Question
	known     []known
}

// A known is a PTR record that whoever asks has already.
type known struct {
	name, target dnsmessage.Name
	ttl          uint32
}

var errNoQuery = errors.New("this is not a query")

// parseQuery reads a packet. Known answers that are cut off, or make no sense, are
// left out.
func parseQuery(packet []byte) (*query, error) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	switch {
	case err != nil:
		return nil, err
	case h.Response || h.OpCode != 0 || h.RCode != 0: // RFC 6762, 18.3 and 18.11
		return nil, errNoQuery
	}
	q := &query{id: h.ID}
	if q.questions, err = p.AllQuestions(); err != nil {
		return nil, err
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return q, nil //nolint:nilerr // the end, or the rest is of no use
		}
		if h.Type != dnsmessage.TypePTR {
			if err := p.SkipAnswer(); err != nil {
				return q, nil //nolint:nilerr // as above
			}
			continue
		}
		body, err := p.PTRResource()
		if err != nil {
			return q, nil //nolint:nilerr // as above
		}
		q.known = append(q.known, known{h.Name, body.PTR, h.TTL})
	}
}

// has reports whether whoever asks knows a record for half of its time at least
// (RFC 6762, section 7.1).
func (q *query) has(r *rr) bool {
	ptr, ok := r.Body.(*dnsmessage.PTRResource)
	if !ok {
		return false
	}
	for i := range q.known {
		if k := &q.known[i]; k.ttl >= r.Header.TTL/2 && same(k.name, r.Header.Name) && same(k.target, ptr.PTR) {
			return true
		}
	}
	return false
}

// wantsUnicast reports whether every question asks for an answer to whoever asks
// alone.
func (q *query) wantsUnicast() bool {
	for i := range q.questions {
		if q.questions[i].Class&topBit == 0 {
			return false
		}
	}
	return true
}

// answer returns which of the records are answers to the query, in their order, and
// then which of the others whoever asks needs next.
func (q *query) answer(all []rr) (answers, additional []int) {
	chosen := make([]bool, len(all))
	for i := range all {
		for j := range q.questions {
			if all[i].answers(&q.questions[j]) && !q.has(&all[i]) {
				chosen[i] = true
				answers = append(answers, i)
				break
			}
		}
	}
	for _, i := range answers {
		for _, next := range all[i].needs {
			if !chosen[next] {
				chosen[next] = true
				additional = append(additional, next)
			}
		}
	}
	return answers, additional
}

// pack makes a packet of records, nil if there are no answers. legacy is the query
// of somebody who is no mDNS client, else nil.
func pack(all []rr, answers, additional []int, legacy *query) []byte {
	if len(answers) == 0 {
		return nil
	}
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}}
	pick := func(these []int) (list []dnsmessage.Resource) {
		for _, i := range these {
			r := all[i].Resource
			if legacy != nil {
				r.Header.Class &^= topBit
				r.Header.TTL = min(r.Header.TTL, legacyTTL)
			}
			list = append(list, r)
		}
		return list
	}
	m.Answers, m.Additionals = pick(answers), pick(additional)
	if legacy != nil {
		m.ID, m.Questions = legacy.id, legacy.questions
	}
	b, err := m.Pack()
	if err != nil || len(b) > maxPacketBytes {
		return nil // many questions of a stranger, to be repeated
	}
	return b
}
