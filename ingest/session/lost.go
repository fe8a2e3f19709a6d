package session

// A span is what was dropped from a queue between two messages that were taken
// out of it, and so all that was offered from one position to the other.
type span struct{ from, to position }

// lose takes down that it was dropped. Copies and what was inherited are not in
// the order of the log, and are left out.
func (s *Session) lose(it *item) {
	switch {
	case it.origin != inPlace || !s.remembered():
	case s.losing:
		s.lost[len(s.lost)-1].to = it.at
	default:
		s.lost, s.losing = append(s.lost, span{it.at, it.at}), true
	}
}

// drop takes out of the queue what an earlier process has dropped from it.
func (s *Session) drop(lost span) {
	s.queue.keep(func(_ int, it *item) bool {
		return it.origin != inPlace || it.at.before(lost.from) || lost.to.before(it.at)
	})
}
