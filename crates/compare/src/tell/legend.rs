//! The legend: every server of a run with the look that it has in all pictures.

use models::Look;

use crate::{
    plan::contestant::{Contestant, Program},
    tell::picture::Server,
};

/// The servers of a run, in its order.
pub struct Legend<'a>(Vec<Server<'a>>);

impl<'a> Legend<'a> {
    pub fn of(contestants: &'a [Contestant]) -> Legend<'a> {
        let servers = contestants.iter().zip(looks(contestants)).enumerate();
        Legend(servers.map(|(index, (contestant, look))| Server { index, name: &contestant.name, look }).collect())
    }

    pub fn servers(&self) -> &[Server<'a>] {
        &self.0
    }

    /// The server of this name, which takes part in the run.
    pub fn server(&self, name: &str) -> Server<'a> {
        *self.0.iter().find(|server| server.name == name).expect("trials are those of the run's servers")
    }
}

/// The first server of a model has the model's look; a second copy and servers that are not in the catalogue have looks that no
/// model has.
fn looks(contestants: &[Contestant]) -> Vec<Look> {
    let mut models = Vec::new();
    let mut others = (0..).map(Look::of_other);
    let look = |contestant: &Contestant| match contestant.program {
        Program::Model(model) if !models.contains(&model.name) => {
            models.push(model.name);
            model.look
        }
        _ => others.next().expect("looks repeat without an end"),
    };
    contestants.iter().map(look).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use models::{CATALOGUE, EPOLL, POLL};

    use super::*;

    fn external(name: &str) -> Contestant {
        Contestant::external(format!("{name}=./server {{port}}").parse().unwrap())
    }

    #[test]
    fn models_keep_their_look_whichever_servers_take_part() {
        let contestants =
            [external("mine"), Contestant::model("poll", &POLL), external("other"), Contestant::model("epoll", &EPOLL)];
        assert_eq!(looks(&contestants), [Look::of_other(0), POLL.look, Look::of_other(1), EPOLL.look]);
    }

    #[test]
    fn all_models_and_a_dozen_own_servers_differ() {
        let models = CATALOGUE.iter().map(|model| Contestant::model(model.name, model));
        let contestants: Vec<_> = models.chain((0..12).map(|index| external(&format!("own-{index}")))).collect();
        let looks: HashSet<_> = looks(&contestants).iter().map(|look| (look.light, look.dark, look.mark)).collect();
        assert_eq!(looks.len(), contestants.len());
    }

    #[test]
    fn two_copies_of_a_model_differ() {
        let [one, other] = ["a", "b"].map(|copy| Contestant::model(format!("epoll-{copy}"), &EPOLL));
        assert_eq!(looks(&[one, other]), [EPOLL.look, Look::of_other(0)]);
    }
}
