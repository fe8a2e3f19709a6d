package rival

import (
	"context"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
)

// RaftWAL opens hashicorp's log for Raft, which syncs every StoreLogs.
func RaftWAL(_ context.Context, dir string) (*Store, error) {
	l, err := raftwal.Open(dir)
	if err != nil {
		return nil, err
	}
	var n uint64
	f := newFront(func(values [][]byte) error {
		logs := make([]*raft.Log, len(values))
		for i, v := range values {
			n++
			logs[i] = &raft.Log{Index: n, Term: 1, Data: v}
		}
		return l.StoreLogs(logs)
	})
	return &Store{Name: "raft-wal", Groups: byFront, Append: f.put, Close: func() error {
		f.close()
		return l.Close()
	}}, nil
}
