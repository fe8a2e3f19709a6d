package rival

import (
	"errors"
	"strconv"
	"sync"
	"testing"
)

// Every contestant takes what several goroutines give it at once.
func TestStores(t *testing.T) {
	for _, open := range append(All(), Raw) {
		s, err := open(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		appenders := 10
		if s.Groups == byNobody {
			appenders = 1
		}
		var all sync.WaitGroup
		errs := make([]error, appenders)
		for g := range appenders {
			all.Go(func() {
				for range 20 {
					errs[g] = errors.Join(errs[g], s.Append([]byte("value")))
				}
			})
		}
		all.Wait()
		if err := errors.Join(errors.Join(errs...), s.Close()); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
	}
}

// What arrives while the front commits one group is one group, and an error goes
// to all of it.
func TestFront(t *testing.T) {
	var sizes []int
	began, goOn := make(chan struct{}), make(chan struct{})
	refused := errors.New("refused")
	f := newFront(func(values [][]byte) error {
		sizes = append(sizes, len(values))
		if len(sizes) == 1 {
			close(began)
			<-goOn
			return nil
		}
		return refused
	})
	const more = 5
	errs := make(chan error, 1+more)
	go func() { errs <- f.put([]byte("first")) }()
	<-began
	for i := range more {
		go func() { errs <- f.put([]byte(strconv.Itoa(i))) }()
	}
	for gathered := 0; gathered < more; { // all wait for the second group
		f.mu.Lock()
		gathered = len(f.gather.values)
		f.mu.Unlock()
	}
	close(goOn)
	failed := 0
	for range 1 + more {
		if err := <-errs; errors.Is(err, refused) {
			failed++
		}
	}
	f.close()
	if failed != more || len(sizes) != 2 || sizes[1] != more {
		t.Errorf("%d failed, groups of %v; want %d, and groups of 1 and %d", failed, sizes, more, more)
	}
}
