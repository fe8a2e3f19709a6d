package session

// A span is what was dropped from a queue between two messages that were taken
// out of it, and so all of one course that was offered from one position to the
// other.
type span struct{ from, to position }

// lose takes down that it was dropped. Copies and what was inherited are not in
// the order of the log, and are left out.
func (s *Session) lose(it *item) {
	if it.origin != inPlace || !s.remembered() {
		return
	}
	for i := s.losing; i < len(s.lost); i++ {
		if s.lost[i].to.course() == it.at.course() {
			s.lost[i].to = it.at
			return
		}
	}
	s.lost = append(s.lost, span{it.at, it.at})
}

// drop takes out of the queue what an earlier process has dropped from it.
func (s *Session) drop(lost span) {
	s.queue.keep(func(_ int, it *item) bool {
		return it.origin != inPlace || it.at.course() != lost.from.course() || it.at.before(lost.from) || lost.to.before(it.at)
	})
}
