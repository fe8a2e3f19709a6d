package rival

import "sync"

// A front gives group commit to stores that have none: what arrives while one
// group is being committed is the next group. It is the plain loop that an
// application would write around them.
type front struct {
	commit func(values [][]byte) error
	wake   chan struct{} // one slot: there is something to commit
	quit   chan struct{}
	ended  chan struct{}

	mu     sync.Mutex
	gather *batch
}

type batch struct {
	values [][]byte
	err    error         // set before done is closed
	done   chan struct{} // closed when values are durable, or never will be
}

func newFront(commit func(values [][]byte) error) *front {
	f := &front{
		commit: commit, wake: make(chan struct{}, 1), quit: make(chan struct{}), ended: make(chan struct{}),
		gather: &batch{done: make(chan struct{})},
	}
	go f.run()
	return f
}

func (f *front) run() {
	defer close(f.ended)
	for {
		select {
		case <-f.wake:
		case <-f.quit:
			return
		}
		for b := f.take(); b != nil; b = f.take() {
			b.err = f.commit(b.values)
			close(b.done)
		}
	}
}

// take returns what has gathered, or nil if nothing has: then it still gathers, and
// belongs to those who put.
func (f *front) take() *batch {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.gather
	if len(b.values) == 0 {
		return nil
	}
	f.gather = &batch{done: make(chan struct{})}
	return b
}

// put returns when value is durable.
func (f *front) put(value []byte) error {
	f.mu.Lock()
	b := f.gather
	b.values = append(b.values, value)
	first := len(b.values) == 1
	f.mu.Unlock()
	if first {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
	<-b.done
	return b.err
}

// close is to be called when nobody puts any more.
func (f *front) close() {
	close(f.quit)
	<-f.ended
}
