package store

import (
	"fmt"
	"testing"
)

func dbgDump(l *Log) {
	for _, s := range l.segs {
		fmt.Printf("seg %d sealed %v end %d commits %d-%d spans %v\n", s.seq, s.sealed, s.sum.End, s.sum.FirstCommit, s.sum.LastCommit, s.sum.Spans)
	}
}
func TestDbg(t *testing.T) {}

var debug = false

func dbgNames(d interface{ List() ([]string, error) }, what string) {
	n, _ := d.List()
	fmt.Println(what, n)
}
