"""What help says, in German, by the English words; a test holds that nothing is missing."""

from collections.abc import Mapping
from typing import Final

LINES: Final[Mapping[str, str]] = {
    "Conversation": "Unterhaltung",
    "Answers": "Antworten",
    "Documents": "Dokumente",
    "Datasets": "Datensätze",
    "Help": "Hilfe",
    "Also": "Auch",
    "For admins.": "Für Admins.",
    "Begin a new conversation.": "Eine neue Unterhaltung beginnen.",
    "Begin this conversation anew, on a branch of its own; what was said stays.":
        "Diese Unterhaltung von vorn beginnen, auf einem eigenen Zweig; was gesagt wurde, bleibt.",
    "Show the system prompt of this conversation.":
        "Die Anweisung an das Modell in dieser Unterhaltung zeigen.",
    "Set the system prompt, and begin anew with it on a branch of its own; what was said stays.":
        "Die Anweisung an das Modell setzen und mit ihr von vorn beginnen; was gesagt wurde, "
        "bleibt.",
    "Stop the answer that is being written; what there is of it stays.":
        "Die Antwort anhalten, die gerade geschrieben wird; was von ihr da ist, bleibt.",
    "Have the last message answered once more; the answer before stays beside it.":
        "Die letzte Nachricht noch einmal beantworten lassen; die frühere Antwort bleibt daneben.",
    "Have the last answer continued where it ended.":
        "Die letzte Antwort dort fortsetzen lassen, wo sie endete.",
    "Take back your last message and its answer; both stay on a branch.":
        "Die letzte Nachricht und ihre Antwort zurücknehmen; beide bleiben auf einem Zweig.",
    "Go on in a copy of this conversation.": "In einer Kopie dieser Unterhaltung weitermachen.",
    "Show the title of the conversation, or set it.":
        "Den Titel der Unterhaltung zeigen oder setzen.",
    "Show which model answers here.": "Zeigen, welches Modell hier antwortet.",
    "List the models.": "Die Modelle auflisten.",
    "Let another model answer from now on; your settings for it come back with it.":
        "Von jetzt an ein anderes Modell antworten lassen; deine Einstellungen dafür kommen mit.",
    "Show which tool servers a model may use here, or choose them.":
        "Zeigen, welche Werkzeugserver ein Modell hier nutzen darf, oder sie wählen.",
    "Show how many of the last messages a model gets.":
        "Zeigen, wie viele der letzten Nachrichten ein Modell bekommt.",
    "Set how many of the last messages a model gets; the system prompt always goes with them.":
        "Setzen, wie viele der letzten Nachrichten ein Modell bekommt; die Anweisung geht immer "
        "mit.",
    "Show exactly what was sent for the last answer.":
        "Genau zeigen, was für die letzte Antwort gesendet wurde.",
    "Show the decoding mode.": "Die Art zeigen, in der das Modell seine Wörter wählt.",
    "List the decoding modes.": "Die Arten auflisten, in denen ein Modell seine Wörter wählt.",
    "Choose a decoding mode; it replaces the one before whole.":
        "Eine Art der Wortwahl festlegen; sie ersetzt die frühere ganz.",
    "Show the settings that you changed, and where each comes from.":
        "Die geänderten Einstellungen zeigen, und woher jede kommt.",
    "Show all settings, and where each comes from.":
        "Alle Einstellungen zeigen, und woher jede kommt.",
    "Set a setting, for you and this model.":
        "Eine Einstellung setzen, für dich und dieses Modell.",
    "Show the title of the document that this conversation becomes.":
        "Den Titel des Dokuments zeigen, zu dem diese Unterhaltung wird.",
    "Set the title of the document.": "Den Titel des Dokuments setzen.",
    "Make a Word document of the last answer, the N-th from the end, or those from N to M.":
        "Ein Word-Dokument aus der letzten Antwort machen, der N-ten vom Ende oder denen von N "
        "bis M.",
    "Set the Google Drive folder that your documents go to; `none` takes it back.":
        "Den Ordner in Google Drive setzen, in den deine Dokumente gehen; `none` nimmt ihn zurück.",
    "Give the conversation as a file.": "Die Unterhaltung als Datei geben.",
    "Make a dataset by a recipe, in the background.":
        "Nach einem Rezept einen Datensatz machen, im Hintergrund.",
    "List your runs, the newest first.": "Deine Läufe auflisten, die neuesten zuerst.",
    "Show how a run stands; the newest without an id.":
        "Zeigen, wie ein Lauf steht; ohne Kennung der neueste.",
    "List your batches, the newest first.": "Deine Stapel auflisten, die neuesten zuerst.",
    "Show how a batch stands; the newest without an id.":
        "Zeigen, wie ein Stapel steht; ohne Kennung der neueste.",
    "Bring a row of a run into this conversation, or go on with another conversation here.":
        "Eine Zeile eines Laufs in diese Unterhaltung bringen oder hier mit einer anderen "
        "Unterhaltung weitermachen.",
    "List your conversations, the last used first.":
        "Deine Unterhaltungen auflisten, die zuletzt benutzten zuerst.",
    "List the commands, or explain one.": "Die Befehle auflisten oder einen erklären.",
    "Show how things stand here: model, conversation, what is being answered.":
        "Zeigen, wie es hier steht: Modell, Unterhaltung, was gerade beantwortet wird.",
    "Show what you have used, and your quotas.":
        "Zeigen, was du verbraucht hast, und deine Grenzen.",
    "Show who you are here.": "Zeigen, wer du hier bist.",
    "Link a chat account on Matrix or Discord to yours.":
        "Ein Chat-Konto auf Matrix oder Discord mit deinem verknüpfen.",
    "Show how your documents look, or change it.":
        "Zeigen, wie deine Dokumente aussehen, oder es ändern.",
    # Of arguments.
    "What a model is told first.": "Was einem Modell zuerst gesagt wird.",
    "The new title.": "Der neue Titel.",
    "A model's name.": "Der Name eines Modells.",
    "Of servers, with spaces between; `none` for no tools.":
        "Von Servern, mit Leerzeichen dazwischen; `none` für keine Werkzeuge.",
    "How many, from 1; 0 is as many as fit.": "Wie viele, ab 1; 0 heißt: so viele passen.",
    "A mode's name.": "Der Name einer Art.",
    "Its name, as `temperature`.": "Ihr Name, etwa `temperature`.",
    "Its value; `default` takes it back.": "Ihr Wert; `default` nimmt ihn zurück.",
    "The title; also the file's name.": "Der Titel; auch der Name der Datei.",
    "An answer, counted from the end; 1 is the last.":
        "Eine Antwort, vom Ende gezählt; 1 ist die letzte.",
    "The end of a range from N.": "Das Ende eines Bereichs ab N.",
    "Of `title-page`, `speakers`, `sources`, `google-doc`; `no-speakers` takes one back.":
        "Von `title-page`, `speakers`, `sources`, `google-doc`; `no-speakers` nimmt eins zurück.",
    "The folder's share link, or its id.": "Der Link zum Ordner oder seine Kennung.",
    "`here`: only for this conversation.": "`here`: nur für diese Unterhaltung.",
    "`markdown`, `docx`, `odt`, `pdf`, or `json` (all branches).":
        "`markdown`, `docx`, `odt`, `pdf` oder `json` (alle Zweige).",
    "A built-in recipe, such as `rlhi`.": "Ein mitgeliefertes Rezept, etwa `rlhi`.",
    "How many rows; 100 without it.": "Wie viele Zeilen; ohne Angabe 100.",
    "The recipe's parameters, as `actions=3`.": "Die Parameter des Rezepts, etwa `actions=3`.",
    "Its id.": "Seine Kennung.",
    "The run's id, or a conversation's.": "Die Kennung des Laufs oder einer Unterhaltung.",
    "The row's number, from 0.": "Die Nummer der Zeile, ab 0.",
    "A command, without dashes.": "Ein Befehl, ohne Striche.",
    "`yes`, when you have read whose it is.": "`yes`, wenn Sie gelesen haben, wessen er ist.",
    "The code that the chat gave; none makes one.":
        "Der Code aus dem Chat; ohne Angabe wird einer gemacht.",
}  # fmt: skip
