package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-edge/tributary"
	"github.com/tributary-edge/tributary/ingest/route"
	"github.com/tributary-edge/tributary/log/record"
	"github.com/tributary-edge/tributary/log/store"
)

// A Line is one record as "tributary tail" shows it.
type Line struct {
	Ledger  string            `json:"ledger"`
	LSN     tributary.LSN     `json:"lsn"`
	Time    time.Time         `json:"time"`
	Topic   string            `json:"topic"` // MQTT
	Client  string            `json:"client"`
	Stream  string            `json:"stream"` // Kafka topic; "" stays on this node
	Key     string            `json:"key"`
	Headers map[string]string `json:"headers,omitempty"`
	Value   []byte            `json:"value"` // base64 in JSON
}

// answerTail streams the records whose MQTT topic matches filter, one JSON line
// each: those of the log from "from" on, and then those that arrive.
func (n *Node) answerTail(w http.ResponseWriter, req *http.Request) {
	filter, err := route.NewMatcher(req.FormValue("filter"))
	if err != nil {
		http.Error(w, "the topic filter "+err.Error(), http.StatusBadRequest)
		return
	}
	from, since, err := parseFrom(req.FormValue("from"), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	_ = flush.Flush() // the headers: the client knows that it is connected
	err = n.tail(req.Context(), from, since, func(id tributary.LedgerID, entries []record.Entry) error {
		for i := range entries {
			e := &entries[i]
			topic := e.Header("mqtt.topic")
			if topic == nil || e.Millis < since || !filter.Matches(string(topic)) {
				continue
			}
			if err := out.Encode(line(id, e)); err != nil {
				return err
			}
		}
		return flush.Flush()
	})
	if err != nil && req.Context().Err() == nil {
		n.logger.Warn("tail ended", "error", err)
	}
}

// parseFrom reads an LSN of the live ledger, or a time ago such as -1h. "" is now.
func parseFrom(s string, now time.Time) (lsn *tributary.LSN, sinceMillis int64, err error) {
	if s == "" {
		return nil, 0, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d < 0 {
		return nil, now.Add(d).UnixMilli(), nil
	}
	if v, err := strconv.ParseUint(s, 10, 64); err == nil {
		l := tributary.LSN(v)
		return &l, 0, nil
	}
	return nil, 0, fmt.Errorf("--from %q is neither a time ago, such as -1h, nor the number of a record", s)
}

// tail calls f with what the log holds and what arrives, until ctx ends.
func (n *Node) tail(ctx context.Context, from *tributary.LSN, sinceMillis int64, f func(tributary.LedgerID, []record.Entry) error) error {
	at := n.log.Durable()
	switch {
	case from != nil:
		at = *from
	case sinceMillis > 0:
		at = 0
		for _, l := range n.log.Ledgers() {
			if l.Live || n.log.Newest(l.ID) < sinceMillis {
				continue
			}
			if err := n.follow(ctx, l.ID, l.From, f); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
		}
	}
	for {
		id := n.log.Ledger()
		if err := n.follow(ctx, id, at, f); !errors.Is(err, io.EOF) || n.log.Ledger() == id {
			return err
		}
		at = 0 // a write has failed, and the log goes on with another ledger
	}
}

// follow reads one ledger from LSN at on; a live one for ever.
func (n *Node) follow(ctx context.Context, id tributary.LedgerID, at tributary.LSN, f func(tributary.LedgerID, []record.Entry) error) error {
	r, err := n.log.Reader(id)
	if err != nil {
		return err
	}
	defer r.Close()
	at = r.GroupStart(max(at, r.Base()))
	for {
		c, err := r.Read(ctx, at, readBytes)
		switch {
		case errors.Is(err, store.ErrTrimmed):
			base := r.Base()
			if base <= at {
				return io.EOF // nothing of the ledger is left
			}
			at = base
			continue
		case err != nil:
			return err
		}
		if err := f(id, c.Entries); err != nil {
			return err
		}
		at = c.Next
	}
}

func line(id tributary.LedgerID, e *record.Entry) Line {
	l := Line{
		Ledger: id.String(), LSN: e.LSN, Time: time.UnixMilli(e.Millis).UTC(), Topic: string(e.Header("mqtt.topic")),
		Client: string(e.Header("mqtt.client_id")), Stream: e.Stream, Key: string(e.Key), Value: e.Value, Headers: map[string]string{},
	}
	for _, h := range e.Headers {
		if h.Key != "mqtt.topic" && h.Key != "mqtt.client_id" && !strings.HasPrefix(h.Key, "_") {
			l.Headers[h.Key] = string(h.Value)
		}
	}
	return l
}
